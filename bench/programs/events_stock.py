"""Counts events with stock handlers: those of the mesh's outbox, and those of stock Nameko."""

from __future__ import annotations

from typing import Any

from nameko.events import event_handler

from bench.programs.events_count import Counted
from nameko_mesh.rpc import rpc


class StockSink:
    name = "stock_sink"

    counted = Counted()

    @event_handler("outbox_source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        self.counted.one()

    @event_handler("stock_source", "happened")
    def on_stock_happened(self, event: dict[str, Any]) -> None:
        self.counted.one()

    @rpc
    def received(self) -> tuple[int, float]:
        return self.counted.so_far()
