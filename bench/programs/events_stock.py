"""Count events of the mesh's outbox and of stock Nameko's dispatcher, with stock handlers."""

from __future__ import annotations

from typing import Any

from nameko.events import event_handler

from bench.programs.events_count import EventCounter
from nameko_mesh.rpc import rpc


class StockSink:
    name = "stock_sink"

    counter = EventCounter()

    @event_handler("outbox_source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        self.counter.add()

    @event_handler("stock_source", "happened")
    def on_stock_happened(self, event: dict[str, Any]) -> None:
        self.counter.add()

    @rpc
    def received(self) -> tuple[int, float]:
        return self.counter.count_and_last()
