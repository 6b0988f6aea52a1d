"""Claims outbox rows, marks them sent, releases and prunes them: the relay's reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from nameko_mesh.outbox.insertion import CLAIM
from nameko_mesh.outbox.rows import OutboxRow
from nameko_mesh.outbox.tables import outbox, unsent
from nameko_mesh.outbox.transaction import PublishingStore, PublishingTransaction
from nameko_mesh.sql.db_clock import clock
from nameko_mesh.sql.reads import among

_CLAIM_LOCK = 0x6D7963
"""Key of the advisory lock that serialises the claims of several relays on PostgreSQL. Any fixed number."""


class OutboxTransaction(PublishingTransaction):
    """Reads and writes outbox rows."""

    def has_due(self) -> bool:
        """Return True if there may be a row to claim. Cheaper than `claim`, and mostly False."""
        return self.connection.execute(_due_row(self.connection.dialect.name)).first() is not None

    def claim(self, claimant: str, limit: int) -> list[OutboxRow]:
        """Claim the oldest unsent rows and return them in order.

        A row waits while an older row of one of its aggregates is claimed by another relay, or waits itself.
        Relays claim one after the other, so that each sees earlier claims.
        """
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))
        now = self.now()
        is_free = sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now)
        due = self._due(is_free, limit)
        claimed = self.connection.execute(
            outbox.update()
            .where(among(self.connection, outbox.c.seq, due) & unsent & is_free)
            .values(claimed_by=claimant, claimed_until=now + CLAIM)
            .returning(
                outbox.c.seq, outbox.c.type, outbox.c.awaited, outbox.c.aggregate_ids, outbox.c.envelopes
            )
        )
        return sorted(_outbox_row(*columns) for columns in claimed)

    def _due(self, is_free: sa.ColumnElement[bool], limit: int) -> list[int]:
        """Return the numbers of the oldest free rows that need not wait behind another row."""
        oldest = sa.select(outbox.c.seq).where(unsent, is_free).order_by(outbox.c.seq).limit(2 * limit)
        query = (
            sa.select(outbox.c.seq, outbox.c.aggregate_ids, is_free)
            .where(unsent, sa.or_(~is_free, outbox.c.seq.in_(oldest)))
            .order_by(outbox.c.seq)
        )
        due: list[int] = []
        waiting: set[str] = set()
        for seq, aggregate_ids, row_is_free in self.connection.execute(query):
            if not row_is_free or not waiting.isdisjoint(aggregate_ids):
                waiting.update(aggregate_ids)
            elif len(due) < limit:
                due.append(seq)
        return due

    def mark_sent(self, claimant: str, seqs: Sequence[int]) -> None:
        """Mark rows as sent, except rows that another relay has claimed meanwhile."""
        sent = {"expected": claimant, "sent_at": datetime.now(UTC)}
        rows = [{"seq": seq, **sent} for seq in seqs]
        self.writes.update(outbox, rows, ("sent_at",), if_still="claimed_by", all_or_none=False)

    def release(self, claimant: str, seqs: Sequence[int], until: datetime | None = None) -> None:
        """End the claim of rows. Any relay may claim them at once, or from `until` on."""
        still_claimed = among(self.connection, outbox.c.seq, seqs) & (outbox.c.claimed_by == claimant)
        self.connection.execute(
            outbox.update().where(still_claimed).values(claimed_by=None, claimed_until=until)
        )

    def prune(self, age: timedelta, limit: int) -> int:
        """Delete rows that were sent longer ago than `age`, among the `limit` oldest. Return their number."""
        oldest = sa.select(outbox.c.seq, outbox.c.sent_at).order_by(outbox.c.seq).limit(limit).subquery()
        old = sa.select(oldest.c.seq).where(oldest.c.sent_at < self.now() - age)
        return int(self.connection.execute(outbox.delete().where(outbox.c.seq.in_(old))).rowcount)


def _outbox_row(
    seq: int, kind: str, awaited: bool, aggregate_ids: Sequence[str], envelopes: Sequence[dict[str, Any]]
) -> OutboxRow:
    encoded, first, ids = orjson.dumps(envelopes), envelopes[0], frozenset(aggregate_ids)
    return OutboxRow(seq, kind, awaited, ids, len(envelopes), encoded, first["event_id"], orjson.dumps(first))


@cache
def _due_row(dialect: str) -> sa.Select[int]:
    """Build the query once, because building it takes longer than executing it."""
    is_due = sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= clock(dialect))
    return sa.select(outbox.c.seq).where(unsent).where(is_due).limit(1)


class OutboxStore(PublishingStore[OutboxTransaction]):
    transaction_cls = OutboxTransaction
