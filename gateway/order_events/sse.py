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

# Statuses only ever move to a higher rank, so what ranks no higher has been told already.
_RANK = {"pending": 0, "confirmed": 1, "rejected": 2, "cancelled": 2}
_FINAL = 2


class StatusStream(StreamingResponse):
    """The present status of an order, then each change, until it is final.

    In every silence of `heartbeat` seconds the status is read again: the broker keeps no events for
    a gateway that was cut off, and a stream has to heal from that without its client's help. After
    `longest` seconds the stream ends; clients of this protocol then connect again by themselves.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        status: str,
        follower: Follower,
        read_status: Callable[[], Awaitable[str]],
        *,
        heartbeat: float,
        longest: float,
    ) -> None:
        self._follower = follower
        self._read_status = read_status
        self._heartbeat = heartbeat
        self._longest = longest
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._changes(status), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._follower):
            await super().__call__(scope, receive, send)

    async def _changes(self, status: str) -> AsyncIterator[bytes]:
        follower = self._follower
        ends = time.monotonic() + self._longest
        rank = _RANK.get(status, 0)
        yield self._event(status)
        while rank < _FINAL and (left := ends - time.monotonic()) > 0:
            event = await follower.next(min(self._heartbeat, left))
            if follower.ended:
                return
            if event is None:
                yield b": still here\n\n"
                event = await self._reread(status)
            status = str(event["data"]["status"])
            if _RANK.get(status, -1) > rank:
                rank = _RANK[status]
                yield self._event(status, event.get("aggregate_version"))

    async def _reread(self, status: str) -> Mapping[str, Any]:
        with suppress(MeshError):  # the next heartbeat asks again
            status = await self._read_status()
        return {"data": {"status": status}}

    def _event(self, status: str, version: Any = None) -> bytes:
        data = orjson.dumps({"order_id": self._follower.order_id, "status": status})
        number = b"id: %d\n" % version if isinstance(version, int) else b""
        return number + b"event: status\ndata: " + data + b"\n\n"
