"""The events of orders, handed to whoever follows one of them.

They are subscribed to while somebody does: an event that nobody waits for is not even delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..web.problems import Problem

log = logging.getLogger(__name__)

ORDER_EVENTS = ("order_placed", "order_confirmed", "order_rejected", "order_cancelled")
LINGER_SECONDS = 10.0
"""How long the subscription outlives its last follower: the next one is often near."""
_MAX_WAITING_EVENTS = 16
"""Events kept for one follower. An order has three in its life, so a slower client has gone astray."""


class Follower:
    """One client's view of one order. Close it, or it counts for ever."""

    def __init__(self, feed: OrderFeed, order_id: str) -> None:
        self._feed = feed
        self.order_id = order_id
        self._waiting: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(_MAX_WAITING_EVENTS)
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


class Subscription(Protocol):
    async def close(self) -> None: ...


class Subscribe(Protocol):
    """Subscribes to the events of orders. `on_flowing` is called whenever they begin to flow."""

    def __call__(
        self, callback: Callable[[Any], None], *, on_flowing: Callable[[], None]
    ) -> Subscription: ...


class OrderFeed:
    """One subscription for the whole process, shared by at most `most` followers."""

    def __init__(self, most: int, subscribe: Subscribe) -> None:
        self._most = most
        self._subscribe = subscribe
        self._subscription: Subscription | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._followers: dict[str, set[Follower]] = {}
        self._count = 0
        self._closed = False

    def follow(self, order_id: str) -> Follower:
        """Events of this order from now on. Raises Problem "unavailable" when there is no room."""
        if self._closed or self._count >= self._most:
            raise Problem("unavailable", "too many clients follow orders now; try again shortly")
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._subscription is None:
            self._subscription = self._subscribe(self.publish, on_flowing=self.refresh)
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
            if not self._count and not self._closed:
                loop = asyncio.get_running_loop()
                self._lingering = loop.call_later(LINGER_SECONDS, self._unsubscribe)

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._closing = asyncio.ensure_future(subscription.close())

    def publish(self, event: Any) -> None:
        """Take an event from the broker; what is no event of an order is dropped."""
        match event:
            case {"aggregate_id": str() as order_id, "data": {"status": str()}}:
                for follower in tuple(self._followers.get(order_id, ())):
                    follower.offer(event)
            case _:
                log.warning("what came as an event of orders is none; it was dropped")

    def refresh(self) -> None:
        """Events begin to flow, and some may have been missed: each follower reads its order again."""
        for followers in self._followers.values():
            for follower in followers:
                follower.offer(None)

    def close(self) -> None:
        """End all streams, and let nobody begin another: the process is about to leave.

        The subscription ends with the connection that it belongs to.
        """
        self._closed = True
        if self._lingering is not None:
            self._lingering.cancel()
        for followers in self._followers.values():
            for follower in followers:
                follower.end()
