"""The life of the gateway: connect and register, then deregister, drain and disconnect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nameko_mesh.aio import Rpc

from .consul import ConsulRegistration
from .order_events.feed import OrderFeed, Subscription

_DRAIN_CALLS_SECONDS = 1.0


class Mesh(Rpc, Protocol):
    """The connection to the services. It reconnects by itself: see `nameko_mesh.aio.RpcClient`."""

    @property
    def is_connected(self) -> bool: ...

    async def start(self, *, wait: float) -> None: ...

    async def stop(self, *, drain: float) -> None: ...

    def subscribe(
        self,
        source: str,
        types: Sequence[str],
        callback: Callable[[Any], None],
        *,
        on_flowing: Callable[[], None],
    ) -> Subscription: ...


class Lifecycle:
    """Owns the background work: the connection, its subscriptions, and the registration in Consul."""

    def __init__(self, mesh: Mesh, feed: OrderFeed, registration: ConsulRegistration | None) -> None:
        self._mesh = mesh
        self._feed = feed
        self._registration = registration
        self._draining = False

    def not_ready(self) -> str | None:
        """Return the reason to send no requests to this instance, or None when it is ready."""
        if self._draining:
            return "this instance is shutting down"
        return None if self._mesh.is_connected else "the broker is not connected"

    async def start(self) -> None:
        """Start without waiting for the broker. Until it is connected, requests are answered with 503."""
        await self._mesh.start(wait=0)
        if self._registration is not None:
            self._registration.start()

    async def drain(self) -> None:
        """Deregister, and end the streams, which would not end by themselves. A second call does nothing."""
        if self._draining:
            return
        self._draining = True
        if self._registration is not None:
            await self._registration.stop()
        self._feed.close()

    async def stop(self) -> None:
        await self.drain()
        await self._mesh.stop(drain=_DRAIN_CALLS_SECONDS)
