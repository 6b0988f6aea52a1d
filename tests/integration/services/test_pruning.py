"""Pruning deletes old rows in batches and keeps young rows, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nameko_mesh.sql import Pruning, inbox
from nameko_mesh.sql.pruning import PruningStore, prune_batch
from services.notifications.service import NotificationsService
from services.products.service import ProductsService
from services.users.service import UsersService

NOW = datetime.now(UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def store(empty_engine):
    return PruningStore(empty_engine("products"))


def receive(store, **ages):
    rows = [
        {"consumer": "c", "event_id": name, "received_at": NOW - timedelta(days=days)}
        for name, days in ages.items()
    ]
    with store.transaction() as tx:
        tx.connection.execute(inbox.insert(), rows)


def left(store):
    with store.transaction(read_only=True) as tx:
        return set(tx.connection.scalars(sa.select(inbox.c.event_id)))


def test_batch_deletes_the_oldest_rows_up_to_its_limit(store):
    receive(store, young=1, oldest=50, old=40, older=45)
    assert prune_batch(store, inbox.c.received_at, MONTH, 2) == 2
    assert left(store) == {"young", "old"}
    assert prune_batch(store, inbox.c.received_at, MONTH, 2) == 1
    assert prune_batch(store, inbox.c.received_at, MONTH, 2) == 0
    assert left(store) == {"young"}


def test_pruning_deletes_all_old_rows_in_batches(store, monkeypatch):
    monkeypatch.setattr("nameko_mesh.sql.pruning.MAX_ROWS_PER_BATCH", 2)
    monkeypatch.setattr("nameko_mesh.sql.pruning.PAUSE_SECONDS", 0)
    pruning = Pruning({inbox.c.received_at: MONTH})
    pruning._store = store
    receive(store, young=1, **{f"old{number}": 31 for number in range(7)})
    pruning.prune()
    assert left(store) == {"young"}


@pytest.mark.parametrize("service", [ProductsService, UsersService, NotificationsService])
def test_each_column_that_a_service_prunes_by_is_indexed(service):
    for column in service.pruning.ages:
        assert any(next(iter(index.columns)) is column for index in column.table.indexes)
