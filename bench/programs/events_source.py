"""Publish events through the mesh's outbox, and with Nameko's own dispatcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nameko.events import EventDispatcher

from nameko_mesh.events import Event
from nameko_mesh.outbox import OutboxRelay, PublishingDatabase, PublishingStore, PublishingTransaction
from nameko_mesh.rpc import rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Event):
    """An event as large as an order's."""

    TYPE: ClassVar[str] = "happened"
    AGGREGATE: ClassVar[str] = "thing_id"

    thing_id: str
    text: str = "x" * 200


class SourceStore(PublishingStore[PublishingTransaction]):
    transaction_cls = PublishingTransaction


class OutboxSource:
    name = "outbox_source"

    store = PublishingDatabase(SourceStore)
    relay = OutboxRelay()

    @rpc
    def publish(self, count: int) -> None:
        """Publish in one transaction, because the suite measures the relay and not the commits."""
        with self.store.transaction() as tx:
            tx.publish([(Happened(thing_id=f"thing-{number}"), 1) for number in range(count)])


class StockSource:
    name = "stock_source"

    dispatch = EventDispatcher()

    @rpc
    def publish(self, count: int) -> None:
        for number in range(count):
            self.dispatch("happened", {"thing_id": f"thing-{number}", "text": "x" * 200})
