"""Server-Sent Events of one order (the format is WHATWG HTML, section 9.2)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing, suppress
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nameko_mesh.errors import MeshError

from .feed import Follower

# An order only moves to a status of a higher rank. The stream has sent every status of a lower or equal rank.
_RANK = {"pending": 0, "confirmed": 1, "rejected": 2, "cancelled": 2}
_FINAL = 2


class StatusStream(StreamingResponse):
    """The present status of an order, then each change, until the status is final.

    After `heartbeat_seconds` without an event the status is read again. The broker keeps no events for a
    disconnected gateway. The stream ends after `max_seconds`, and its client connects again.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        status: str,
        follower: Follower,
        read_status: Callable[[], Awaitable[str]],
        *,
        heartbeat_seconds: float,
        max_seconds: float,
    ) -> None:
        self._follower = follower
        self._read_status = read_status
        self._heartbeat_seconds = heartbeat_seconds
        self._max_seconds = max_seconds
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._changes(status), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._follower):
            await super().__call__(scope, receive, send)

    async def _changes(self, status: str) -> AsyncIterator[bytes]:
        follower = self._follower
        ends_at = time.monotonic() + self._max_seconds
        rank = _RANK.get(status, 0)
        yield self._encode(status)
        while rank < _FINAL and (remaining := ends_at - time.monotonic()) > 0:
            event = await follower.next(min(self._heartbeat_seconds, remaining))
            if follower.ended:
                return
            if event is None:
                yield b": still here\n\n"
                event = await self._read_again(status)
            status = str(event["data"]["status"])
            if _RANK.get(status, -1) > rank:
                rank = _RANK[status]
                yield self._encode(status, event.get("aggregate_version"))

    async def _read_again(self, status: str) -> Mapping[str, Any]:
        with suppress(MeshError):  # the next heartbeat reads again
            status = await self._read_status()
        return {"data": {"status": status}}

    def _encode(self, status: str, version: Any = None) -> bytes:
        data = orjson.dumps({"order_id": self._follower.order_id, "status": status})
        id_line = b"id: %d\n" % version if isinstance(version, int) else b""
        return id_line + b"event: status\ndata: " + data + b"\n\n"
