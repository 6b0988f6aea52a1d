"""The outbox relay: takes committed events to the broker, at least once and in order.

An event's row is written in the transaction that causes it, claimed for the relay of the same process or
left to be found; the relay publishes events with confirms, all at once, and marks them sent. One that dies
leaves its claims to expire, and another takes over. Events of one aggregate leave in the order they were
committed in.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from kombu.entity import Exchange
from nameko.extensions import DependencyProvider

from mesh.backoff import back_off
from mesh.confirms import ConfirmedPublisher, Fate, Parcel
from mesh.database import Engine, Store, Transaction
from mesh.outgoing import CLAIM, Outgoing, clock
from mesh.sets import among
from mesh.tables import outbox

log = logging.getLogger(__name__)

BATCH = 200
IDLE_SECONDS = 1.0
"""How often to look for what a dead relay, or a transaction of another instance, has left."""
CONFIRM_SECONDS = 3.0
MARK_SECONDS = 0.2
"""How long events that were sent may wait to be marked together: a transaction for each handful of them
costs more than sending them. Those of a process that dies before are sent again."""
UNROUTABLE_PAUSE = timedelta(seconds=2)
"""An awaited event that no queue takes is kept this long before the next try."""

KEEP = timedelta(hours=1)
"""How long sent events can still be looked at in the table."""
PRUNE_SECONDS = 60.0
PRUNE_BATCH = 1000

_CLAIM_LOCK = 0x6D7963  # "myc": serialises the claims of several relays on PostgreSQL


class OutboxTransaction(Transaction):
    """Claims and settles rows of the outbox."""

    def claim(self, claimant: str, limit: int) -> list[Outgoing]:
        """The oldest unsent rows, now this claimant's, in order.

        A row waits while an earlier one of its aggregate is in another's hands; claims are made
        one after the other, so no relay overlooks what another is just claiming.
        """
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))
        now = self.now()
        earlier = outbox.alias()
        held_up = (
            sa.exists()
            .where(earlier.c.aggregate_id == outbox.c.aggregate_id)
            .where(earlier.c.seq < outbox.c.seq)
            .where(earlier.c.sent_at.is_(None))
            .where(earlier.c.claimed_until > now)
        )
        due = (
            sa.select(outbox.c.seq)
            .where(outbox.c.sent_at.is_(None))
            .where(sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now))
            .where(~held_up)
            .order_by(outbox.c.seq)
            .limit(limit)
        )
        claimed = self.connection.execute(
            outbox.update()
            .where(outbox.c.seq.in_(due))
            .values(claimed_by=claimant, claimed_until=now + CLAIM)
            .returning(
                outbox.c.seq,
                outbox.c.event_id,
                outbox.c.type,
                outbox.c.aggregate_id,
                outbox.c.awaited,
                sa.cast(outbox.c.envelope, sa.Text).label("envelope"),  # it is passed on as it is
            )
        )
        found = [Outgoing(*row) for row in claimed]
        return sorted(one._replace(envelope=one.envelope.encode()) for one in found)  # type: ignore[attr-defined]

    def mark_sent(self, claimant: str, seqs: Sequence[int]) -> None:
        self._mine(claimant, seqs, sent_at=clock(self.connection))

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


class OutboxStore(Store[OutboxTransaction]):
    transaction_cls = OutboxTransaction


class OutboxRelay(DependencyProvider):
    """Runs the relay beside the service that owns the outbox. Several instances may run at once."""

    shared = Engine()

    def setup(self) -> None:
        service = self.container.service_name
        self._claimant = str(uuid.uuid4())
        self._stopping = False
        self._next_look = self._mark_at = 0.0
        self._sent: list[int] = []
        """Events that the broker has, and the table does not know of yet."""
        self._next_pruning = time.monotonic() + PRUNE_SECONDS
        self._publisher = ConfirmedPublisher(Exchange(f"{service}.events", type="topic", durable=True))

    def start(self) -> None:
        self._store = OutboxStore(self.shared.engine)
        self.shared.news.change_hands(self._claimant)
        self._thread = self.container.spawn_managed_thread(self._run, identifier="outbox relay")

    def stop(self) -> None:
        self._stopping = True
        self.shared.news.ring()
        self._thread.wait()
        self._publisher.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _run(self) -> None:
        news, failures = self.shared.news, 0
        while not self._stopping:
            try:
                busy = self._relay_fresh()
                busy = self._relay_found() or busy  # what is left behind has its turn under load, too
                if len(self._sent) >= BATCH or self._to_wait() <= 0:
                    self._mark_sent()
                self._prune_now_and_then()
                failures = 0
                if not busy:  # with a backlog new events are better found in their turn
                    news.change_hands(self._claimant)
            except Exception as error:  # broker or database away: nothing is lost, only late
                failures, busy = failures + 1, False
                self._forget()
                log.warning("outbox relay: %s: %s", type(error).__name__, error)
            if not busy and not self._stopping:
                news.wait(back_off(failures) if failures else self._to_wait())
        with suppress(Exception):  # what is not sent any more is found by another relay, or the next one
            while self._relay_fresh():
                """The last events of this process."""
            self._mark_sent()
        self._forget()

    def _to_wait(self) -> float:
        """Seconds until there is something to do without news."""
        return self._mark_at - time.monotonic() if self._sent else IDLE_SECONDS

    def _forget(self) -> list[Outgoing]:
        """Let go of what was claimed: under another name, so that nothing new overtakes it before its
        claims end. Returns what had not been published."""
        self._claimant = str(uuid.uuid4())
        self._sent.clear()
        return self.shared.news.change_hands(None)

    def _relay_fresh(self) -> bool:
        """Publish what this process has just committed. Whether there was anything."""
        events = self.shared.news.take(BATCH)
        if events:
            self._send(events)
        return bool(events)

    def _relay_found(self) -> bool:
        """Publish what was left behind, by whomever, when it is time to look. Whether there is more."""
        if not self.shared.news.some_left_behind() and time.monotonic() < self._next_look:
            return False
        if self.relay() == BATCH:
            return True
        self._next_look = time.monotonic() + IDLE_SECONDS
        return False

    def _prune_now_and_then(self) -> None:
        if time.monotonic() >= self._next_pruning:
            self._next_pruning = time.monotonic() + PRUNE_SECONDS
            pruned = PRUNE_BATCH
            while pruned == PRUNE_BATCH and not self._stopping:
                with self._store.transaction() as tx:
                    pruned = tx.prune(KEEP, PRUNE_BATCH)

    def relay(self) -> int:
        """Claim one batch and publish it. Returns how many rows it took in hand."""
        with self._store.transaction() as tx:
            rows = tx.claim(self._claimant, BATCH)
        if rows:
            self._send(rows)
        return len(rows)

    def _send(self, rows: Sequence[Outgoing]) -> None:
        sent: list[int] = []
        held: dict[str, Fate] = {}
        """Aggregates of which an event did not get through: their later ones wait behind it."""
        end = time.monotonic() + CLAIM.total_seconds() / 2
        left = rows
        try:
            while left and time.monotonic() < end:
                wave, left = _wave(left)
                for row, fate in zip(wave, self._publish(wave), strict=True):
                    if fate is Fate.KEPT:
                        sent.append(row.seq)
                    else:
                        held.setdefault(row.aggregate_id, fate)
                left = [row for row in left if row.aggregate_id not in held]
        finally:  # also when the fate of some is not known: they are sent again
            self._settle(rows, sent, held)

    def _publish(self, rows: Sequence[Outgoing]) -> list[Fate]:
        parcels = [Parcel(row.event_id, row.type, row.envelope, row.awaited) for row in rows]
        return self._publisher.publish(parcels, CONFIRM_SECONDS)

    def _settle(self, rows: Sequence[Outgoing], sent: Sequence[int], held: Mapping[str, Fate]) -> None:
        if not self._sent:
            self._mark_at = time.monotonic() + MARK_SECONDS
        self._sent += sent
        if len(sent) < len(rows):
            done = frozenset(sent)
            self._give_back([row for row in rows if row.seq not in done], held)

    def _give_back(self, waiting: Sequence[Outgoing], held: Mapping[str, Fate]) -> None:
        """With them goes what is in memory: it may have to wait behind them."""
        claimant, sent = self._claimant, list(self._sent)
        later = [row.seq for row in waiting if held.get(row.aggregate_id) is Fate.UNROUTABLE]
        again = [row.seq for row in waiting if held.get(row.aggregate_id) is not Fate.UNROUTABLE]
        again += [row.seq for row in self._forget()]
        with self._store.transaction() as tx:
            if sent:
                tx.mark_sent(claimant, sent)
            if later:
                log.warning("no queue takes %d events, or those before them, yet: they wait", len(later))
                tx.release(claimant, later, until=tx.now() + UNROUTABLE_PAUSE)
            if again:
                tx.release(claimant, again)
        self.shared.news.tell((), None, others=True)

    def _mark_sent(self) -> None:
        if self._sent:
            with self._store.transaction() as tx:
                tx.mark_sent(self._claimant, self._sent)
            self._sent.clear()


def _wave(rows: Sequence[Outgoing]) -> tuple[list[Outgoing], list[Outgoing]]:
    """What can go out together, and what has to wait for it: an event that somebody must receive may
    come back, and the later ones of its aggregate must not have gone before it."""
    wave: list[Outgoing] = []
    after: list[Outgoing] = []
    may_come_back: set[str] = set()
    for row in rows:
        if row.aggregate_id in may_come_back:
            after.append(row)
            continue
        wave.append(row)
        if row.awaited:
            may_come_back.add(row.aggregate_id)
    return wave, after
