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
from datetime import timedelta
from threading import Event
from typing import Any

from nameko.extensions import DependencyProvider

from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.backoff import back_off
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.outbox.handoff import MANY
from nameko_mesh.outbox.insertion import CLAIM, OutboxRow
from nameko_mesh.outbox.messages import EventMessage, messages_of
from nameko_mesh.outbox.publisher import MOST_AT_ONCE, EventPublisher
from nameko_mesh.sql.provider import Engine

log = logging.getLogger(__name__)

BATCH = 200
"""Bundles that are looked for at once."""
IDLE_SECONDS = 1.0
"""How often to look for what a dead relay, or a transaction of another instance, has left."""
PACE_SECONDS = 0.2
"""How long new events wait for others at most, when there have just been some: under load many transactions
share a message. Those that come after a pause leave at once."""
MARK_SECONDS = 0.5
"""How long events that were sent may wait to be marked together: a transaction for each handful of them
costs more than sending them. Those of a process that dies before are sent again."""
UNROUTABLE_PAUSE = timedelta(seconds=2)
"""An awaited event that no queue takes is kept this long before the next try."""

KEEP = timedelta(hours=1)
"""How long sent events can still be looked at in the table."""
PRUNE_SECONDS = 60.0
PRUNE_BATCH = 1000


class OutboxRelay(DependencyProvider):
    """Runs the relay beside the service that owns the outbox. Several instances may run at once."""

    shared = Engine()

    def setup(self) -> None:
        service = self.container.service_name
        self._claimant = str(uuid.uuid4())
        self._stopping = Event()
        self._next_look = self._mark_at = self._pace_from = 0.0
        self._sent: list[int] = []
        """Events that the broker has, and the table does not know of yet."""
        self._next_pruning = time.monotonic() + PRUNE_SECONDS
        self._publisher = EventPublisher(service)

    def start(self) -> None:
        self._store = OutboxStore(self.shared.engine)
        self.shared.handoff.rename_claimant(self._claimant)
        self._thread = self.container.spawn_managed_thread(self._run, identifier="outbox relay")

    def stop(self) -> None:
        self._stopping.set()
        self.shared.handoff.wake()
        self._thread.wait()
        self._publisher.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _run(self) -> None:
        handoff, failures = self.shared.handoff, 0
        while not self._stopping.is_set():
            try:
                self._wait_for_others()
                busy = self._relay_fresh()
                busy = self._relay_found() or busy  # what is left behind has its turn under load, too
                if len(self._sent) >= BATCH or self._to_wait() <= 0:
                    self._mark_sent()
                self._prune_now_and_then()
                failures = 0
                if not busy:  # with a backlog new events are better found in their turn
                    handoff.rename_claimant(self._claimant)
            except Exception as error:  # broker or database away: nothing is lost, only late
                failures, busy = failures + 1, False
                self._forget()
                log.warning("outbox relay: %s: %s", type(error).__name__, error)
            if failures:  # what is committed meanwhile is no reason to try sooner
                self._stopping.wait(back_off(failures))
            elif not busy and not self._stopping.is_set():
                handoff.wait(self._to_wait())
        with suppress(Exception):  # what is not sent any more is found by another relay, or the next one
            while self._relay_fresh():
                """The last events of this process."""
            self._mark_sent()
        self._forget()

    def _wait_for_others(self) -> None:
        seconds = self._pace_from + PACE_SECONDS - time.monotonic()
        if seconds > 0 and not self.shared.handoff.has_many:
            self._stopping.wait(seconds)

    def _to_wait(self) -> float:
        """Seconds until there is something to do without news."""
        return self._mark_at - time.monotonic() if self._sent else IDLE_SECONDS

    def _forget(self) -> list[OutboxRow]:
        """Let go of what was claimed: under another name, so that nothing new overtakes it before its
        claims end. Returns what had not been published."""
        self._claimant = str(uuid.uuid4())
        self._sent.clear()
        return self.shared.handoff.rename_claimant(None)

    def _relay_fresh(self) -> bool:
        """Publish what this process has just committed. Whether there was anything."""
        events = self.shared.handoff.take(MANY)
        if events:
            self._pace_from = time.monotonic()
            self._send(events)
        return bool(events)

    def _relay_found(self) -> bool:
        """Publish what was left behind, by whomever, when it is time to look. Whether there is more."""
        is_told = self.shared.handoff.some_left_behind()
        if not is_told and time.monotonic() < self._next_look:
            return False
        if (is_told or self._has_due()) and self.relay() == BATCH:
            return True
        self._next_look = time.monotonic() + IDLE_SECONDS
        return False

    def _has_due(self) -> bool:
        with self._store.transaction(read_only=True) as tx:
            return tx.has_due()

    def _prune_now_and_then(self) -> None:
        if time.monotonic() >= self._next_pruning:
            self._next_pruning = time.monotonic() + PRUNE_SECONDS
            pruned = PRUNE_BATCH
            while pruned == PRUNE_BATCH and not self._stopping.is_set():
                with self._store.transaction() as tx:
                    pruned = tx.prune(KEEP, PRUNE_BATCH)

    def relay(self) -> int:
        """Claim one batch and publish it. Returns how many rows it took in hand."""
        with self._store.transaction() as tx:
            rows = tx.claim(self._claimant, BATCH)
        if rows:
            self._send(rows)
        return len(rows)

    def _send(self, rows: Sequence[OutboxRow]) -> None:
        sent: list[int] = []
        held: dict[str, PublishResult] = {}
        """Aggregates of which an event did not get through: their later ones wait behind it."""
        end = time.monotonic() + CLAIM.total_seconds() / 2
        left = messages_of(rows)
        try:
            while left and time.monotonic() < end:
                wave, left = _wave(left)
                failed: dict[str, PublishResult] = {}
                for one, fate in zip(wave, self._publish(wave), strict=True):
                    if fate is not PublishResult.CONFIRMED:
                        failed |= dict.fromkeys(one.aggregate_ids - failed.keys(), fate)
                    else:  # what has left behind one that failed leaves again
                        sent += [row.seq for row in one.rows if not _is_held(row, failed)]
                if failed:  # what only shares a message with what waits need not wait
                    held = failed | held
                    rest = sorted(row for one in left for row in one.rows)
                    left = messages_of(row for row in rest if not _is_held(row, held))
        finally:  # also when the fate of some is not known: they are sent again
            self._settle(rows, sent, held)

    def _publish(self, messages: Sequence[EventMessage]) -> list[PublishResult]:
        return self._publisher.publish(messages)

    def _settle(
        self, rows: Sequence[OutboxRow], sent: Sequence[int], held: Mapping[str, PublishResult]
    ) -> None:
        if not self._sent:
            self._mark_at = time.monotonic() + MARK_SECONDS
        self._sent += sent
        if len(sent) < len(rows):
            done = frozenset(sent)
            self._give_back([row for row in rows if row.seq not in done], held)

    def _give_back(self, waiting: Sequence[OutboxRow], held: Mapping[str, PublishResult]) -> None:
        """With them goes what is in memory: it may have to wait behind them."""
        claimant, sent = self._claimant, list(self._sent)
        unroutable = {one for one, fate in held.items() if fate is PublishResult.UNROUTABLE}
        later = [row.seq for row in waiting if not unroutable.isdisjoint(row.aggregate_ids)]
        again = [row.seq for row in waiting if unroutable.isdisjoint(row.aggregate_ids)]
        again += [row.seq for row in self._forget()]
        with self._store.transaction() as tx:
            if sent:
                tx.mark_sent(claimant, sent)
            if later:
                log.warning(
                    "no queue takes %d bundles of events, or those before them, yet: they wait", len(later)
                )
                tx.release(claimant, later, until=tx.now() + UNROUTABLE_PAUSE)
            if again:
                tx.release(claimant, again)
        self.shared.handoff.offer((), None, others=True)

    def _mark_sent(self) -> None:
        if self._sent:
            with self._store.transaction() as tx:
                tx.mark_sent(self._claimant, self._sent)
            self._sent.clear()


def _is_held(row: OutboxRow, held: dict[str, PublishResult]) -> bool:
    """Whether it waits behind another; then those of all its aggregates wait behind it."""
    fates = [held[aggregate_id] for aggregate_id in row.aggregate_ids if aggregate_id in held]
    if fates:
        held.update(dict.fromkeys(row.aggregate_ids - held.keys(), fates[0]))
    return bool(fates)


def _wave(messages: Sequence[EventMessage]) -> tuple[list[EventMessage], list[EventMessage]]:
    """What can go out together, and what has to wait for it. Single events leave when one of their type has
    told that somebody listens, those of another type perhaps before; a message of several events, or one
    that somebody must receive, may come back. The later ones of their aggregates must not have gone before.

    Nor are they so many that their claims could end meanwhile.
    """
    wave: list[EventMessage] = []
    after: list[EventMessage] = []
    left: dict[str, str] = {}
    """By aggregate, the type of what leaves; nothing where no type may follow."""
    room = MOST_AT_ONCE
    for one in messages:
        may_follow = all(left.get(aggregate_id, one.type) == one.type for aggregate_id in one.aggregate_ids)
        if may_follow and room > 0:
            wave.append(one)
            room -= one.size
            follower = one.type if one.size == 1 and not one.awaited else ""
        else:
            after.append(one)
            follower = ""
        left |= dict.fromkeys(one.aggregate_ids, follower)
    return wave, after
