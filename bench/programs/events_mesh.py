"""Count events with the mesh's event handlers."""

from __future__ import annotations

from typing import Any

from bench.programs.events_count import EventCounter
from nameko_mesh.events import event_handler
from nameko_mesh.rpc import rpc


class MeshSink:
    name = "mesh_sink"

    counter = EventCounter()

    @event_handler("outbox_source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        self.counter.add()

    @rpc
    def received(self) -> tuple[int, float]:
        return self.counter.count_and_last()
