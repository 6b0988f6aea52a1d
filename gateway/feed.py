"""The events of orders, handed to whoever follows one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from .errors import Problem

log = logging.getLogger(__name__)

_MOST_WAITING = 16
"""Events kept for one follower. An order has three in its life, so a slower client has gone astray."""


class Follower:
    """One client's view of one order. Close it, or it counts for ever."""

    def __init__(self, feed: OrderFeed, order_id: str) -> None:
        self._feed = feed
        self.order_id = order_id
        self._waiting: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(_MOST_WAITING)
        self.ended = False

    async def next(self, seconds: float) -> Mapping[str, Any] | None:
        """The next event, or None when it is time to look for oneself: `seconds` have passed without one,
        some may have been missed, or the stream is to end.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._waiting.get()
        except TimeoutError:
            return None

    def offer(self, event: Mapping[str, Any] | None) -> None:
        if self._waiting.full():
            self.end()
        else:
            self._waiting.put_nowait(event)

    def end(self) -> None:
        """The stream is to end now; its client will connect again if it still cares."""
        self.ended = True
        if not self._waiting.full():
            self._waiting.put_nowait(None)  # wakes who waits

    def close(self) -> None:
        self._feed.leave(self)


class OrderFeed:
    """One subscription for the whole process, shared by at most `most` followers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._followers: dict[str, set[Follower]] = {}
        self._count = 0
        self._closed = False

    def follow(self, order_id: str) -> Follower:
        """Events of this order from now on. Raises Problem "unavailable" when there is no room."""
        if self._closed or self._count >= self._most:
            raise Problem("unavailable", "too many clients follow orders now; try again shortly")
        follower = Follower(self, order_id)
        self._followers.setdefault(order_id, set()).add(follower)
        self._count += 1
        return follower

    def leave(self, follower: Follower) -> None:
        followers = self._followers.get(follower.order_id, set())
        if follower in followers:
            followers.remove(follower)
            self._count -= 1
            if not followers:
                del self._followers[follower.order_id]

    def publish(self, event: Any) -> None:
        """Take an event from the broker; what is no event of an order is dropped."""
        match event:
            case {"aggregate_id": str() as order_id, "data": {"status": str()}}:
                for follower in tuple(self._followers.get(order_id, ())):
                    follower.offer(event)
            case _:
                log.warning("what came as an event of orders is none; it was dropped")

    def refresh(self) -> None:
        """Events may have been missed: whoever follows an order should read it again."""
        for followers in self._followers.values():
            for follower in followers:
                follower.offer(None)

    def close(self) -> None:
        """End all streams, and let nobody begin another: the process is about to leave."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.end()
