"""The feed of order events, which hands each event to the clients that follow its order.

The feed subscribes while a client follows an order. At other times the broker delivers no event to it.
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
"""The subscription outlives its last follower for so long, because the next follower often comes soon."""
_MAX_WAITING_EVENTS = 16
"""Events that wait for one follower. An order has three events in all, so a slower client is broken."""


class Follower:
    """A client that follows an order. Close it, or it takes up a place for ever."""

    def __init__(self, feed: OrderFeed, order_id: str) -> None:
        self._feed = feed
        self.order_id = order_id
        self._waiting: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(_MAX_WAITING_EVENTS)
        self.ended = False

    async def next(self, max_seconds: float) -> Mapping[str, Any] | None:
        """Return the next event, or None when the caller has to read the order's status itself.

        Return None after `max_seconds` without an event, after a possible loss of events, and at the end of
        the stream.
        """
        try:
            async with asyncio.timeout(max_seconds):
                return await self._waiting.get()
        except TimeoutError:
            return None

    def offer(self, event: Mapping[str, Any] | None) -> None:
        if self._waiting.full():
            self.end()
        else:
            self._waiting.put_nowait(event)

    def end(self) -> None:
        """End the stream now. Its client connects again if it still needs the events."""
        self.ended = True
        if not self._waiting.full():
            self._waiting.put_nowait(None)  # wakes `next`

    def close(self) -> None:
        self._feed.leave(self)


class Subscription(Protocol):
    async def close(self) -> None: ...


class Subscribe(Protocol):
    """Subscribes to the events of orders. `on_flowing` is called whenever events begin to flow."""

    def __call__(
        self, callback: Callable[[Any], None], *, on_flowing: Callable[[], None]
    ) -> Subscription: ...


class OrderFeed:
    """The subscription of the process. At most `max_followers` followers share it."""

    def __init__(self, max_followers: int, subscribe: Subscribe) -> None:
        self._max_followers = max_followers
        self._subscribe = subscribe
        self._subscription: Subscription | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._followers: dict[str, set[Follower]] = {}
        self._count = 0
        self._closed = False

    def follow(self, order_id: str) -> Follower:
        """Return a follower of the order's events. Raises Problem "unavailable" when all places are taken."""
        if self._closed or self._count >= self._max_followers:
            raise Problem("unavailable", "too many clients follow orders; try again shortly")
        self._stop_lingering()
        if self._subscription is None:
            self._subscription = self._subscribe(self.publish, on_flowing=self.refresh)
        follower = Follower(self, order_id)
        self._followers.setdefault(order_id, set()).add(follower)
        self._count += 1
        return follower

    def leave(self, follower: Follower) -> None:
        """Remove a follower. A second call changes nothing."""
        followers = self._followers.get(follower.order_id, set())
        if follower not in followers:
            return
        followers.remove(follower)
        self._count -= 1
        if not followers:
            del self._followers[follower.order_id]
        if not self._count and not self._closed:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(LINGER_SECONDS, self._unsubscribe)

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._closing = asyncio.ensure_future(subscription.close())

    def publish(self, event: Any) -> None:
        """Hand an event from the broker to its followers. Drop what is not an event of an order."""
        match event:
            case {"aggregate_id": str() as order_id, "data": {"status": str()}}:
                for follower in tuple(self._followers.get(order_id, ())):
                    follower.offer(event)
            case _:
                log.warning("dropped a message that is not an event of an order")

    def refresh(self) -> None:
        """Make each follower read its order again, because events before this moment may be lost."""
        for followers in self._followers.values():
            for follower in followers:
                follower.offer(None)

    def close(self) -> None:
        """End all streams and refuse new followers, because the process is about to exit.

        The subscription ends together with its connection.
        """
        self._closed = True
        self._stop_lingering()
        for followers in self._followers.values():
            for follower in followers:
                follower.end()
