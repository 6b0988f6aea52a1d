"""Who wants to know of each change of stock, and how it reaches them.

Every instance of products hears every `stock_changed`; each watcher has a queue of its own. One
that can't keep up is dropped, so a slow client holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import Empty, Full, Queue
from typing import Any

from nameko.extensions import DependencyProvider

from nameko_mesh.errors import Overloaded
from services.products.domain import Product

MOST_WATCHERS = 20
"""Each holds a worker of its service for as long as it watches."""
BACKLOG = 1000
LOOK_SECONDS = 1.0
"""How soon a watcher notices that its client has gone."""

_END = None

Watcher = Queue[Mapping[str, Any] | None]
Stock = tuple[str, int, int]
"""Product id, what is on hand, version of the product."""


class StockWatch(DependencyProvider):
    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def get_dependency(self, worker_ctx: Any) -> StockWatch:
        return self

    def leave(self) -> None:
        for watcher in list(self._watchers):
            self._drop(watcher)

    def changes(self, stream: Any, known: Callable[[], Iterable[Product]]) -> Iterator[Stock]:
        """What `known` says is on hand now, then every change, until the stream is closed.

        An event that tells no news is passed over. Raises Overloaded when too many watch already.
        """
        if len(self._watchers) >= MOST_WATCHERS:
            raise Overloaded(f"{MOST_WATCHERS} clients watch the stock already")
        watcher: Watcher = Queue(BACKLOG)
        self._watchers.add(watcher)  # before the first read: what changes meanwhile waits in the queue
        seen: dict[str, int] = {}
        try:
            for product in known():
                seen[product.id] = product.version
                yield product.id, product.stock, product.version
            for envelope in self._arriving(watcher, stream):
                product_id, version = envelope["aggregate_id"], envelope["aggregate_version"]
                if version > seen.get(product_id, 0):
                    seen[product_id] = version
                    yield product_id, envelope["data"]["stock"], version
        finally:
            self._watchers.discard(watcher)

    def _arriving(self, watcher: Watcher, stream: Any) -> Iterator[Mapping[str, Any]]:
        while not stream.closed:
            try:
                envelope = watcher.get(timeout=LOOK_SECONDS)
            except Empty:
                continue
            if envelope is _END:
                return
            yield envelope

    def tell(self, envelope: Mapping[str, Any]) -> None:
        for watcher in list(self._watchers):
            try:
                watcher.put_nowait(envelope)
            except Full:
                self._drop(watcher)

    def _drop(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        while True:
            try:
                watcher.put_nowait(_END)
                return
            except Full:
                watcher.get_nowait()
