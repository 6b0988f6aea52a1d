"""The gateway's life: connect and register; on the way out tell first, then drain, then disconnect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .clients import Rpc
from .feed import OrderFeed
from .registration import Registration


class Mesh(Rpc, Protocol):
    """The connection to the services: it comes back by itself, and says so."""

    @property
    def connected(self) -> bool: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def subscribe(self, service: str, handler: Callable[[Mapping[str, Any]], None]) -> None: ...


class Lifecycle:
    """Owns what runs in the background: the connection, its subscription and the registration."""

    def __init__(self, mesh: Mesh, feed: OrderFeed, registration: Registration | None) -> None:
        self._mesh = mesh
        self._feed = feed
        self._registration = registration
        self._draining = False

    def not_ready(self) -> str | None:
        """Why no requests should come, or None when they may."""
        if self._draining:
            return "this instance is about to leave"
        return None if self._mesh.connected else "the broker is not connected"

    async def start(self) -> None:
        """Does not wait for the broker: until it is there, requests are answered 503."""
        await self._mesh.start()
        await self._mesh.subscribe("orders", self._feed.publish)
        if self._registration is not None:
            self._registration.start()

    async def drain(self) -> None:
        """Ask for no more requests and end what would never end by itself. May be called again."""
        if self._draining:
            return
        self._draining = True
        if self._registration is not None:
            await self._registration.stop()
        self._feed.close()

    async def stop(self) -> None:
        await self.drain()
        await self._mesh.stop()
