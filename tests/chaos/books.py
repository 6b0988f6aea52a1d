"""The state of the four databases after a row, for the orders of the row's own products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from nameko_mesh.outbox import outbox, unsent
from services.notifications.tables import mails
from services.orders.tables import customers, orders
from services.products.tables import products, reservations
from services.users.tables import users
from tests.chaos.mesh import Mesh

MAILED_EVENTS = ("order_confirmed", "order_cancelled")
"""The types of events that become mails."""
PUBLISHERS = ("products", "users", "orders")


@dataclass(frozen=True, slots=True)
class OrderRow:
    order_id: str
    user_id: str
    status: str
    items: Mapping[str, int]
    was_confirmed: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Books:
    stock: Mapping[str, int]
    orders: Mapping[str, OrderRow]
    reserved: Mapping[str, Mapping[str, int]]
    """Quantities of the live reservations, by order and product."""
    mailed_events: Mapping[str, Counter[str]]
    """Number of events in the outbox that become mails, by type and order."""
    mails: Counter[str]
    """Number of mails about an event, by the event's id."""
    events: Mapping[str, tuple[str, str]]
    """Type and order of the events that become mails, by event id."""
    unsent_mails: int
    unsent_events: Mapping[str, int]

    @property
    def pending(self) -> list[str]:
        """Return the pending orders, and the orders that have a reservation but no row yet."""
        return [
            *(order.order_id for order in self.orders.values() if order.status == "pending"),
            *(order_id for order_id in self.reserved if order_id not in self.orders),
        ]

    @classmethod
    def of(cls, mesh: Mesh, product_ids: Iterable[str]) -> Books:
        wanted = set(product_ids)
        mine = _orders(mesh, wanted)
        events = {
            envelope["event_id"]: (envelope["type"], envelope["aggregate_id"])
            for envelope in envelopes(mesh, "orders")
            if envelope["type"] in MAILED_EVENTS and envelope["aggregate_id"] in mine
        }
        sent_at_by_event = {row.id: row.sent_at for row in _rows(mesh, "notifications", sa.select(mails))}
        unsent_query = sa.select(sa.func.count()).select_from(outbox).where(unsent)
        return cls(
            stock={row.id: row.stock for row in _rows(mesh, "products", sa.select(products))},
            orders=mine,
            reserved=_reserved(mesh, wanted),
            mailed_events={
                kind: Counter(order_id for type_, order_id in events.values() if type_ == kind)
                for kind in MAILED_EVENTS
            },
            mails=Counter(event_id for event_id in sent_at_by_event if event_id in events),
            events=events,
            unsent_mails=sum(1 for sent_at in sent_at_by_event.values() if sent_at is None),
            unsent_events={name: _rows(mesh, name, unsent_query)[0][0] for name in PUBLISHERS},
        )


def _orders(mesh: Mesh, wanted: set[str]) -> dict[str, OrderRow]:
    by_id = {}
    for row in _rows(mesh, "orders", sa.select(orders)):
        items = {line["product_id"]: line["quantity"] for line in row.lines}
        if wanted & set(items):
            was_confirmed = row.confirmed_at is not None
            by_id[row.id] = OrderRow(row.id, row.user_id, row.status, items, was_confirmed, row.attempts)
    return by_id


def _reserved(mesh: Mesh, wanted: set[str]) -> dict[str, dict[str, int]]:
    reserved = {}
    query = sa.select(reservations).where(reservations.c.status == "reserved")
    for row in _rows(mesh, "products", query):
        lines = {line["product_id"]: line["quantity"] for line in row.lines}
        if wanted & set(lines):
            reserved[row.order_id] = lines
    return reserved


def envelopes(mesh: Mesh, service: str) -> list[dict[str, Any]]:
    """Return every event in the outbox of a service, sent or unsent, in order."""
    query = sa.select(outbox.c.envelopes).order_by(outbox.c.seq)
    return [envelope for row in _rows(mesh, service, query) for envelope in row.envelopes]


def users_and_copies(mesh: Mesh, user_ids: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return name, address and version of these users: the originals in users, and the copies in orders."""
    wanted = set(user_ids)
    originals_and_copies = []
    for service, table in (("users", users), ("orders", customers)):
        query = sa.select(table.c.id, table.c.name, table.c.email, table.c.version)
        rows = _rows(mesh, service, query.where(table.c.id.in_(wanted)))
        originals_and_copies.append({row.id: (row.name, row.email, row.version) for row in rows})
    originals, copies = originals_and_copies
    return originals, copies


def _rows(mesh: Mesh, service: str, query: Any) -> list[Any]:
    engine = sa.create_engine(mesh.database_url(service), poolclass=NullPool)
    with engine.connect() as connection:
        return list(connection.execute(query))
