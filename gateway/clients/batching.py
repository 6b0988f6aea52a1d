"""Gathers calls of one method into batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from gateway.clients.context import CallContext, Json
from nameko_mesh.aio import Batcher
from nameko_mesh.errors import (
    Refused,
    RemoteFault,
    from_public,
)


@dataclass(frozen=True, slots=True)
class BatcherFactory:
    """How calls of one method are gathered; see nameko_mesh.aio.batcher. `on_batch` gets method and size."""

    most: int = 100
    lanes: int = 3
    on_batch: Callable[[str, int], None] = lambda method, size: None

    def of(
        self,
        method: str,
        send: Callable[[CallContext, list[Any]], Awaitable[Any]],
        *,
        stalled_after: float = inf,
    ) -> Batcher[tuple[CallContext, Any], Json]:
        """Gathers items of one method, whose plural `send` calls, and deals the outcomes out again."""

        async def carry(
            asked: Sequence[tuple[CallContext, Any]], deadline: float
        ) -> Sequence[Json | Refused | RemoteFault]:
            context = CallContext(" ".join(own.request_id for own, _ in asked), deadline)
            outcomes = await send(context, [item for _, item in asked])
            return [_outcome(outcome) for outcome in outcomes] if isinstance(outcomes, list) else []

        return Batcher(
            carry,
            max_batch_size=self.most,
            lanes=self.lanes,
            stalled_after=stalled_after,
            on_batch=lambda size: self.on_batch(method, size),
        )


def _outcome(outcome: Any) -> Json | Refused | RemoteFault:
    match outcome:
        case {"ok": dict() as value}:
            return value
        case {"error": {"code": str(), "message": str()} as refusal}:
            return from_public(refusal)
    return RemoteFault("MalformedAnswer", "an answer has neither a value nor an error")
