"""Forgetting what nobody will ask for any more: old inbox rows, old answers to commands.

    pruning = Pruning({inbox.c.received_at: timedelta(days=30)})

What is kept for too short a time is executed twice when it comes again: keep an inbox row for longer
than an event may be parked, and a command for longer than a client may repeat it.
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

EVERY_SECONDS = 600.0
BATCH = 1000
PAUSE_SECONDS = 0.1
"""Between two batches, for those who wait for the locks."""


class PruningStore(Store[Transaction]):
    transaction_cls = Transaction


class Pruning(DependencyProvider):
    """Deletes rows by the age of a column, which wants an index, in small transactions.

    Several instances may do it at once: each skips what another has in hand.
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
        while not self._stopping.wait(EVERY_SECONDS * random.uniform(0.5, 1.5)):
            try:
                self.prune()
            except Exception:  # the database is away: it will keep for another while
                log.warning("nothing was pruned", exc_info=True)

    def prune(self) -> None:
        """Delete all that is too old now."""
        for moment, age in self.ages.items():
            while prune_batch(self._store, moment, age, BATCH) == BATCH:
                if self._stopping.wait(PAUSE_SECONDS):
                    return


def prune_batch(store: Store[Any], moment: sa.Column[Any], age: timedelta, limit: int) -> int:
    """Delete up to `limit` rows of the column's table whose moment is longer ago. Returns how many."""
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
