"""Sends each change of stock to the clients that watch the stock.

Every instance of products receives every `stock_changed` event and puts it into a queue for each watcher.
A watcher whose queue is full is dropped, so that a slow client delays nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from queue import Empty, Full, Queue
from typing import Any

from nameko.extensions import DependencyProvider

from nameko_mesh.errors import Overloaded
from services.products.domain import Product

MAX_WATCHERS = 20
"""Each watcher occupies a worker of the service for as long as it watches."""
MAX_QUEUED_EVENTS = 1000
CLIENT_POLL_SECONDS = 1.0
"""The time between two checks that the client is still connected."""

_END = None

Watcher = Queue[Mapping[str, Any] | None]
Stock = tuple[str, int, int]
"""Product id, stock, version of the product."""


class StockWatch(DependencyProvider):
    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def get_dependency(self, worker_ctx: Any) -> StockWatch:
        return self

    def leave(self) -> None:
        """End every watch, because the instance is about to stop."""
        for watcher in list(self._watchers):
            self._drop(watcher)

    def changes(
        self, stream: Any, product_ids: Collection[str], read_products: Callable[[], Iterable[Product]]
    ) -> Iterator[Stock]:
        """Yield the stock of the products that are read, then every change, until the stream is closed.

        An empty `product_ids` stands for all products. An event that is older than the stock yielded last is
        skipped. Raises Overloaded beyond MAX_WATCHERS.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Overloaded(f"{MAX_WATCHERS} clients watch the stock already; try again later")
        watcher: Watcher = Queue(MAX_QUEUED_EVENTS)
        self._watchers.add(watcher)  # before the read: changes during the read wait in the queue
        versions: dict[str, int] = {}
        try:
            for product in read_products():
                versions[product.id] = product.version
                yield product.id, product.stock, product.version
            for event in self._events(watcher, stream):
                product_id, version = event["aggregate_id"], event["aggregate_version"]
                is_watched = not product_ids or product_id in product_ids
                if is_watched and version > versions.get(product_id, 0):
                    versions[product_id] = version
                    yield product_id, event["data"]["stock"], version
        finally:
            self._watchers.discard(watcher)

    def _events(self, watcher: Watcher, stream: Any) -> Iterator[Mapping[str, Any]]:
        while not stream.closed:
            try:
                event = watcher.get(timeout=CLIENT_POLL_SECONDS)
            except Empty:
                continue
            if event is _END:
                return
            yield event

    def send(self, event: Mapping[str, Any]) -> None:
        """Queue a `stock_changed` event for every watcher."""
        for watcher in list(self._watchers):
            try:
                watcher.put_nowait(event)
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
