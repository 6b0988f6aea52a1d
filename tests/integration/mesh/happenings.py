"""The events of a service called `source`, for the tests of how events travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa

from nameko_mesh.events import Event
from nameko_mesh.outbox import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Event):
    TYPE: ClassVar[str] = "happened"
    AGGREGATE: ClassVar[str] = "thing"

    thing: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited(Happened):
    TYPE: ClassVar[str] = "awaited"
    AWAITED: ClassVar[bool] = True


def publish(store: Any, *events: Event) -> None:
    """Publish the events in one transaction, so that events of one type make a bundle."""
    with store.transaction() as tx:
        tx.publish([(event, number) for number, event in enumerate(events, start=1)])


def unsent(store: Any, *also: Any) -> int:
    """Return the number of unsent outbox rows that also meet the conditions."""
    with store.transaction(read_only=True) as tx:
        query = sa.select(sa.func.count()).where(outbox.c.sent_at.is_(None), *also)
        return int(tx.connection.scalar(query) or 0)
