"""What waits in the databases of a mesh: events not sent yet, and orders not settled yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from mycelium.seed import url_for
from nameko_mesh.sql.engine import open_engine, reading
from nameko_mesh.sql.tables import outbox, unsent
from services.orders.tables import orders, pending

PUBLISHERS = ("products", "users", "orders")


@dataclass(frozen=True, slots=True)
class Lag:
    """Events of one service that wait for the relay; the age is in seconds."""

    service: str
    unsent: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An order of which products has not decided yet; times are in seconds."""

    order_id: str
    user_id: str
    age_seconds: float
    attempts: int
    next_try_seconds: float


def outbox_lags(database_url: str) -> list[Lag]:
    events = sa.func.coalesce(sa.func.sum(sa.func.json_array_length(outbox.c.envelopes)), 0)
    query = sa.select(events, sa.func.min(outbox.c.created_at)).where(unsent)
    lags = []
    for service in PUBLISHERS:
        ((count, oldest),) = _rows(url_for(database_url, service), query)
        lags.append(Lag(service, int(count), _age(oldest) if count else 0.0))
    return lags


def unsettled_orders(database_url: str, limit: int) -> list[Unsettled]:
    """The oldest first."""
    columns = (orders.c.id, orders.c.user_id, orders.c.created_at, orders.c.attempts, orders.c.due_at)
    query = sa.select(*columns).where(pending).order_by(orders.c.created_at).limit(limit)
    return [
        Unsettled(row.id, row.user_id, _age(row.created_at), row.attempts, max(0.0, -_age(row.due_at)))
        for row in _rows(url_for(database_url, "orders"), query)
    ]


def _rows(url: str, query: sa.Executable) -> list[Any]:
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            return list(connection.execute(query))
    finally:
        engine.dispose()


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)
