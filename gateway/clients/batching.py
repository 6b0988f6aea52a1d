"""Batches of calls: many requests for one method travel in one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from nameko_mesh.aio import Batcher
from nameko_mesh.errors import Refused, RemoteFault, from_public

from .context import CallContext, Json


@dataclass(frozen=True, slots=True)
class BatcherFactory:
    """Makes batchers with the same limits (see nameko_mesh.aio.batcher).

    `on_batch` is called with the method and the size of each batch.
    """

    max_batch_size: int = 100
    lanes: int = 3
    on_batch: Callable[[str, int], None] = lambda method, size: None

    def make(
        self,
        method: str,
        send: Callable[[CallContext, list[Any]], Awaitable[Any]],
        *,
        stalled_after: float = inf,
    ) -> Batcher[tuple[CallContext, Any], Json]:
        """Return a batcher. `send` calls the method with a list of items and returns an outcome for each."""

        async def send_batch(
            calls: Sequence[tuple[CallContext, Any]], deadline: float
        ) -> Sequence[Json | Refused | RemoteFault]:
            context = CallContext(" ".join(context.request_id for context, _ in calls), deadline)
            outcomes = await send(context, [item for _, item in calls])
            return [_parse_outcome(outcome) for outcome in outcomes] if isinstance(outcomes, list) else []

        return Batcher(
            send_batch,
            max_batch_size=self.max_batch_size,
            lanes=self.lanes,
            stalled_after=stalled_after,
            on_batch=lambda size: self.on_batch(method, size),
        )


def _parse_outcome(outcome: Any) -> Json | Refused | RemoteFault:
    match outcome:
        case {"ok": dict() as value}:
            return value
        case {"error": {"code": str(), "message": str()} as refusal}:
            return from_public(refusal)
    return RemoteFault("MalformedAnswer", "an outcome has neither a value nor an error")
