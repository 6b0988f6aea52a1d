"""Transactions that publish events: the events are committed with the change that causes them.

    class ThingsTransaction(PublishingTransaction): ...

    class ThingsStore(PublishingStore[ThingsTransaction]):
        transaction_cls = ThingsTransaction

    class ThingsService:
        store = PublishingDatabase(ThingsStore)
        relay = OutboxRelay()

`tx.publish` collects events. Before the commit, `_write_rows` inserts them as outbox rows. After the commit,
the rows that the insert has claimed go to the relay of this process. Rows of a newer commit wait there while
an older commit of the same aggregate has no answer (`Handoff.begin_commit`). When the outcome of a commit is
unknown, this process stops claiming under the same name (`Handoff.outcome_unknown`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa
from nameko.extensions import SharedExtension

from nameko_mesh.events.schema import Envelope, Event, sealed, timestamp
from nameko_mesh.outbox.handoff import Handoff
from nameko_mesh.outbox.insertion import NewRow, insert, new_rows
from nameko_mesh.outbox.rows import OutboxRow
from nameko_mesh.outbox.tables import SCHEMA
from nameko_mesh.sql.provider import Database
from nameko_mesh.sql.transaction import Store, Transaction


class PublishingTransaction(Transaction):
    """A transaction that may publish events."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection)
        self.handoff = Handoff()
        """Leads to the relay of this process. PublishingStore replaces this default, which leads nowhere."""
        self._envelopes: list[Envelope] = []

    def publish(self, events: Iterable[tuple[Event, int]]) -> None:
        """Put events, each with the version of its aggregate, into the outbox."""
        envelopes = sealed(events, timestamp(datetime.now(UTC)))
        if envelopes and not self._envelopes:
            self.before_commit(self._write_rows)
        self._envelopes += envelopes

    def _write_rows(self) -> None:
        rows, self._envelopes = new_rows(self._envelopes), []
        claimant = self.handoff.claimant if self.handoff.has_room else None
        claimed_rows: list[OutboxRow] = []

        def offer() -> None:
            self.handoff.offer(claimed_rows, claimant, has_unclaimed=len(claimed_rows) < len(rows))

        self.writes.add(insert(rows, claimant, claimed_rows.extend))
        self.after_commit(offer)
        if claimant is not None and self.connection.dialect.name == "postgresql":
            self._announce(rows, claimant)

    def _announce(self, rows: Sequence[NewRow], claimant: str) -> None:
        """Make newer rows of the same aggregates wait in the handoff until this commit has an outcome."""
        commit = self.handoff.begin_commit(chain.from_iterable(row.aggregate_ids for row in rows))
        end_commit = partial(self.handoff.end_commit, commit)
        self.after_commit(end_commit)
        self.on_rollback(end_commit)
        self.on_unknown_outcome(partial(self.handoff.outcome_unknown, claimant))
        self.on_unknown_outcome(end_commit)


T = TypeVar("T", bound=PublishingTransaction)


class PublishingStore(Store[T]):
    """Opens transactions whose events go to the relay of this process."""

    def __init__(self, engine: sa.Engine, handoff: Handoff | None = None) -> None:
        super().__init__(engine)
        self._handoff = handoff or Handoff()

    def begin(self, connection: sa.Connection) -> T:
        tx = super().begin(connection)
        tx.handoff = self._handoff
        return tx


class SharedHandoff(SharedExtension):
    """The handoff of a service, which its stores and its relay share."""

    def __init__(self) -> None:
        self.handoff = Handoff()


class PublishingDatabase(Database):
    """Injects a publishing store over this service's own database."""

    schemas = (SCHEMA,)
    outbox = SharedHandoff()

    def open_store(self, engine: sa.Engine) -> Any:
        return self.make_store(engine, self.outbox.handoff)  # type: ignore[call-arg]
