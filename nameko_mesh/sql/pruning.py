"""Deletes old rows in the background, such as inbox rows and answers to commands.

    pruning = Pruning({inbox.c.received_at: timedelta(days=30)})

A repeated event or command takes effect again after its row is deleted. So keep an inbox row for longer than
an event may be parked. Keep a command row for longer than a client may repeat the command.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from datetime import timedelta
from threading import Event
from typing import Any

import sqlalchemy as sa
from nameko.extensions import DependencyProvider

from nameko_mesh.sql.provider import Engine
from nameko_mesh.sql.transaction import Store, Transaction

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
MAX_ROWS_PER_BATCH = 1000
PAUSE_SECONDS = 0.1
"""Pause between two batches, in which other transactions get the locks."""


class PruningStore(Store[Transaction]):
    transaction_cls = Transaction


class Pruning(DependencyProvider):
    """Deletes rows by the age of a column, in small transactions. The column needs an index.

    Several instances may prune at once, because each skips rows that another instance has locked.
    """

    shared = Engine()

    def __init__(self, ages: Mapping[sa.Column[Any], timedelta]) -> None:
        self.ages = ages
        self._stopping = Event()

    def start(self) -> None:
        self._store = PruningStore(self.shared.engine)
        self._thread = self.container.spawn_managed_thread(self._run, identifier="pruning")

    def stop(self) -> None:
        self._stopping.set()
        self._thread.wait()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS * random.uniform(0.5, 1.5)):
            try:
                self.prune()
            except Exception:  # the database is away: the next run deletes the rows
                log.warning("pruning failed, the next run tries again", exc_info=True)

    def prune(self) -> None:
        """Delete all rows that are too old."""
        for moment, age in self.ages.items():
            while prune_batch(self._store, moment, age, MAX_ROWS_PER_BATCH) == MAX_ROWS_PER_BATCH:
                if self._stopping.wait(PAUSE_SECONDS):
                    return


def prune_batch(store: Store[Any], moment: sa.Column[Any], age: timedelta, limit: int) -> int:
    """Delete up to `limit` rows whose `moment` is longer ago than `age`. Return their number."""
    table = moment.table
    keys = list(table.primary_key)
    with store.transaction() as tx:
        old = (
            sa.select(*keys)
            .where(moment < tx.now() - age)
            .order_by(moment)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        deleted = tx.connection.execute(sa.delete(table).where(sa.tuple_(*keys).in_(old)))
    return int(deleted.rowcount)
