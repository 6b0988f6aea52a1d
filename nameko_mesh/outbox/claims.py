"""What the relay does with the rows of the outbox: claims them, marks them sent, forgets them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from nameko_mesh.outbox.insertion import CLAIM, OutboxRow
from nameko_mesh.sql.db_clock import clock
from nameko_mesh.sql.reads import among
from nameko_mesh.sql.tables import outbox, unsent
from nameko_mesh.sql.transaction import Store, Transaction

_CLAIM_LOCK = 0x6D7963  # "myc": serialises the claims of several relays on PostgreSQL


class OutboxTransaction(Transaction):
    """Claims and settles rows of the outbox."""

    def has_due(self) -> bool:
        """Whether there may be something to claim: a look at one row, for it is rarely so."""
        found = self.connection.execute(_one_due(self.connection.dialect.name)).first()
        return found is not None

    def claim(self, claimant: str, limit: int) -> list[OutboxRow]:
        """The oldest unsent rows, now this claimant's, in order.

        A row waits while an earlier one of one of its aggregates is in another's hands, or waits itself;
        claims are made one after the other, so no relay overlooks what another is just claiming.
        """
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))
        now = self.now()
        is_free = sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now)
        oldest = sa.select(outbox.c.seq).where(unsent, is_free).order_by(outbox.c.seq).limit(2 * limit)
        looked_at = (
            sa.select(outbox.c.seq, outbox.c.aggregate_ids, is_free)
            .where(unsent, sa.or_(~is_free, outbox.c.seq.in_(oldest)))
            .order_by(outbox.c.seq)
        )
        due: list[int] = []
        waiting: set[str] = set()
        for seq, aggregate_ids, free in self.connection.execute(looked_at):
            if not free or not waiting.isdisjoint(aggregate_ids):
                waiting.update(aggregate_ids)
            elif len(due) < limit:
                due.append(seq)
        claimed = self.connection.execute(
            outbox.update()
            .where(among(self.connection, outbox.c.seq, due) & unsent & is_free)
            .values(claimed_by=claimant, claimed_until=now + CLAIM)
            .returning(
                outbox.c.seq, outbox.c.type, outbox.c.awaited, outbox.c.aggregate_ids, outbox.c.envelopes
            )
        )
        return sorted(_outgoing(*row) for row in claimed)

    def mark_sent(self, claimant: str, seqs: Sequence[int]) -> None:
        """What has changed hands meanwhile stays as it is."""
        sent = {"expected": claimant, "sent_at": datetime.now(UTC)}
        rows = [{"seq": seq, **sent} for seq in seqs]
        self.writes.update(outbox, rows, ("sent_at",), if_still="claimed_by", all_or_none=False)

    def release(self, claimant: str, seqs: Sequence[int], until: datetime | None = None) -> None:
        """Give rows back: at once, or claimable again from `until` on."""
        self._mine(claimant, seqs, claimed_by=None, claimed_until=until)

    def prune(self, age: timedelta, limit: int) -> int:
        """Forget, of the oldest rows, what was sent longer ago than that. Returns how many."""
        oldest = sa.select(outbox.c.seq, outbox.c.sent_at).order_by(outbox.c.seq).limit(limit).subquery()
        old = sa.select(oldest.c.seq).where(oldest.c.sent_at < self.now() - age)
        return int(self.connection.execute(outbox.delete().where(outbox.c.seq.in_(old))).rowcount)

    def _mine(self, claimant: str, seqs: Sequence[int], **values: Any) -> None:
        mine = among(self.connection, outbox.c.seq, seqs) & (outbox.c.claimed_by == claimant)
        self.connection.execute(outbox.update().where(mine).values(**values))


def _outgoing(
    seq: int, kind: str, awaited: bool, aggregate_ids: Sequence[str], envelopes: Sequence[dict[str, Any]]
) -> OutboxRow:
    whole, first, ids = orjson.dumps(envelopes), envelopes[0], frozenset(aggregate_ids)
    return OutboxRow(seq, kind, awaited, ids, len(envelopes), whole, first["event_id"], orjson.dumps(first))


@cache
def _one_due(dialect: str) -> sa.Select[int]:
    """Made once: to put a statement together takes longer than to execute this one."""
    is_due = sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= clock(dialect))
    return sa.select(outbox.c.seq).where(unsent).where(is_due).limit(1)


class OutboxStore(Store[OutboxTransaction]):
    transaction_cls = OutboxTransaction
