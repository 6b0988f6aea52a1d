"""Unsent events and unsettled orders, read from the services' databases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from mycelium.runner.process_plan import SERVICES, database_url_for
from mycelium.seed import schemas_of
from nameko_mesh import outbox
from nameko_mesh.sql import open_engine, reading
from services.orders.tables import orders, pending


@dataclass(frozen=True, slots=True)
class OutboxLag:
    """A service's events that its relay has not sent yet."""

    service: str
    unsent: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class UnsettledOrder:
    """An order that products has not decided yet. `next_try_seconds` is 0 when a try is due."""

    order_id: str
    user_id: str
    age_seconds: float
    attempts: int
    next_try_seconds: float


def publishers() -> list[str]:
    """Return the services that publish events: an outbox is in their database."""
    return [service for service in SERVICES if outbox.SCHEMA in schemas_of(service)]


def outbox_lags(database_url: str) -> list[OutboxLag]:
    """Return the lag of every service that publishes events."""
    event_count = sa.func.coalesce(sa.func.sum(sa.func.json_array_length(outbox.outbox.c.envelopes)), 0)
    query = sa.select(event_count, sa.func.min(outbox.outbox.c.created_at)).where(outbox.unsent)
    lags = []
    for service in publishers():
        ((count, oldest),) = _rows(database_url_for(database_url, service), query)
        lags.append(OutboxLag(service, int(count), _age_seconds(oldest) if count else 0.0))
    return lags


def unsettled_orders(database_url: str, limit: int) -> list[UnsettledOrder]:
    """Return at most `limit` orders, the oldest first."""
    columns = (orders.c.id, orders.c.user_id, orders.c.created_at, orders.c.attempts, orders.c.due_at)
    query = sa.select(*columns).where(pending).order_by(orders.c.created_at).limit(limit)
    return [
        UnsettledOrder(
            order_id=row.id,
            user_id=row.user_id,
            age_seconds=_age_seconds(row.created_at),
            attempts=row.attempts,
            next_try_seconds=max(0.0, -_age_seconds(row.due_at)),
        )
        for row in _rows(database_url_for(database_url, "orders"), query)
    ]


def _rows(url: str, query: sa.Executable) -> list[Any]:
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            return list(connection.execute(query))
    finally:
        engine.dispose()


def _age_seconds(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)
