"""What the databases say after a row: of the orders of its own products, and of them alone."""

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

TOLD = ("order_confirmed", "order_cancelled")
"""The events that become mails."""
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
    """What live reservations hold, by order and product."""
    told: Mapping[str, Counter[str]]
    """How often each event that becomes a mail is in the outbox, by type and order."""
    mails: Counter[str]
    """Mails about an event, by the event's id."""
    events: Mapping[str, tuple[str, str]]
    """Type and order of those events, by id."""
    unsent_mails: int
    unsent_events: Mapping[str, int]

    @property
    def pending(self) -> list[str]:
        """Orders that have not ended, and those whose stock is reserved and that are not even written."""
        return [
            *(one.order_id for one in self.orders.values() if one.status == "pending"),
            *(order_id for order_id in self.reserved if order_id not in self.orders),
        ]

    @classmethod
    def of(cls, mesh: Mesh, product_ids: Iterable[str]) -> Books:
        wanted = set(product_ids)
        mine = _orders(mesh, wanted)
        events = {
            one["event_id"]: (one["type"], one["aggregate_id"])
            for one in envelopes(mesh, "orders")
            if one["type"] in TOLD and one["aggregate_id"] in mine
        }
        about = {row.id: row.sent_at for row in _rows(mesh, "notifications", sa.select(mails))}
        unsent_query = sa.select(sa.func.count()).select_from(outbox).where(unsent)
        return cls(
            stock={row.id: row.stock for row in _rows(mesh, "products", sa.select(products))},
            orders=mine,
            reserved=_reserved(mesh, wanted),
            told={kind: Counter(of for type_, of in events.values() if type_ == kind) for kind in TOLD},
            mails=Counter(one for one in about if one in events),
            events=events,
            unsent_mails=sum(1 for sent_at in about.values() if sent_at is None),
            unsent_events={name: _rows(mesh, name, unsent_query)[0][0] for name in PUBLISHERS},
        )


def _orders(mesh: Mesh, wanted: set[str]) -> dict[str, OrderRow]:
    found = {}
    for row in _rows(mesh, "orders", sa.select(orders)):
        items = {line["product_id"]: line["quantity"] for line in row.lines}
        if wanted & set(items):
            was_confirmed = row.confirmed_at is not None
            found[row.id] = OrderRow(row.id, row.user_id, row.status, items, was_confirmed, row.attempts)
    return found


def _reserved(mesh: Mesh, wanted: set[str]) -> dict[str, dict[str, int]]:
    held = {}
    query = sa.select(reservations).where(reservations.c.status == "reserved")
    for row in _rows(mesh, "products", query):
        lines = {line["product_id"]: line["quantity"] for line in row.lines}
        if wanted & set(lines):
            held[row.order_id] = lines
    return held


def envelopes(mesh: Mesh, service: str) -> list[dict[str, Any]]:
    """Every event in the outbox of a service, sent or not, in order."""
    query = sa.select(outbox.c.envelopes).order_by(outbox.c.seq)
    return [one for row in _rows(mesh, service, query) for one in row.envelopes]


def users_and_copies(mesh: Mesh, user_ids: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name, address and version of these users, as users has them and as orders knows them."""
    wanted = set(user_ids)
    found = []
    for service, table in (("users", users), ("orders", customers)):
        query = sa.select(table.c.id, table.c.name, table.c.email, table.c.version)
        rows = _rows(mesh, service, query.where(table.c.id.in_(wanted)))
        found.append({row.id: (row.name, row.email, row.version) for row in rows})
    return found[0], found[1]


def _rows(mesh: Mesh, service: str, query: Any) -> list[Any]:
    engine = sa.create_engine(mesh.database_url(service), poolclass=NullPool)
    with engine.connect() as connection:
        return list(connection.execute(query))
