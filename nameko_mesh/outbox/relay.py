"""The outbox relay: publishes committed events, at least once and in order.

The relay takes rows from the handoff of its process, and searches the table for rows that were left behind.
It publishes the rows with confirms, and marks them sent. When a relay dies, its claims expire and another
relay takes over.

A failure of the broker or of the database never ends the loop (`_run`): the relay gives its claims up and
tries again after a pause. `_release` decides what happens to rows that the broker refused.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from threading import Event
from typing import Any

from nameko.extensions import DependencyProvider

from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.backoff import back_off
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.outbox.handoff import MAX_EVENTS_TAKEN
from nameko_mesh.outbox.insertion import CLAIM
from nameko_mesh.outbox.messages import EventMessage
from nameko_mesh.outbox.publisher import EventPublisher
from nameko_mesh.outbox.rows import OutboxRow
from nameko_mesh.outbox.send_plan import SendPlan
from nameko_mesh.outbox.tables import SCHEMA
from nameko_mesh.outbox.transaction import SharedHandoff
from nameko_mesh.sql.provider import Engine

log = logging.getLogger(__name__)

MAX_ROWS_CLAIMED = 200
POLL_SECONDS = 1.0
"""Interval of the search for rows that a dead relay, or another instance, has left behind."""
GATHER_SECONDS = 0.2
"""Longest delay of events that follow others, so that under load many transactions share a message. Events
after a pause leave at once."""
MARK_SECONDS = 0.5
"""Longest delay until sent rows are marked. They are marked together, because a transaction for a few rows
costs more than sending them. If the process dies before, the rows are sent again."""
RETRY_PAUSE = timedelta(seconds=2)
"""Delay of the next attempt for rows with an event that no queue takes, or that the broker rejects."""

KEEP_SENT = timedelta(hours=1)
"""Age at which sent rows are deleted. Until then people can look at them."""
PRUNE_SECONDS = 60.0
PRUNE_BATCH = 1000


class OutboxRelay(DependencyProvider):
    """Publishes the events of a service. Several instances of the service may run at once."""

    shared = Engine()
    outbox = SharedHandoff()
    schemas = (SCHEMA,)
    plans_by_index = True
    """The statement that inserts rows must never scan the table (sql.postgresql)."""

    def setup(self) -> None:
        self._claimant = str(uuid.uuid4())
        self._stopping = Event()
        self._next_poll = self._mark_at = self._gather_from = 0.0
        self._sent: list[int] = []
        """Numbers of rows that the broker has confirmed, and that are not marked as sent yet."""
        self._next_pruning = time.monotonic() + PRUNE_SECONDS
        self._publisher = EventPublisher(self.container.service_name)

    def start(self) -> None:
        self._store = OutboxStore(self.shared.engine)
        self._handoff = self.outbox.handoff
        self._handoff.rename_claimant(self._claimant)
        self._thread = self.container.spawn_managed_thread(self._run, identifier="outbox relay")

    def stop(self) -> None:
        self._stopping.set()
        self._handoff.wake()
        self._thread.wait()
        self._publisher.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                is_busy = self._relay_once()
                failures = 0
            except Exception as error:  # broker or database is down: rows are late, and none is lost
                failures, is_busy = failures + 1, False
                self._give_up_claims()
                log.warning("outbox relay: %s: %s", type(error).__name__, error)
            if failures:  # a new commit must not shorten the pause
                self._stopping.wait(back_off(failures))
            elif not is_busy and not self._stopping.is_set():
                self._handoff.wait(self._idle_seconds())
        self._drain()

    def _relay_once(self) -> bool:
        """Publish the waiting rows, up to a limit. Return True if there may be more."""
        self._gather()
        is_busy = self._relay_handoff()
        is_busy = self._relay_left_behind() or is_busy  # under load, too, rows left behind are published
        if len(self._sent) >= MAX_ROWS_CLAIMED or self._idle_seconds() <= 0:
            self._mark_sent()
        self._prune_when_due()
        if not is_busy:  # in a backlog, rows are claimed from the table in order
            self._handoff.rename_claimant(self._claimant)
        return is_busy

    def _drain(self) -> None:
        """Publish the last rows of this process. Another relay finds what fails here."""
        with suppress(Exception):
            while self._relay_handoff():
                continue
            self._mark_sent()
        self._give_up_claims()

    def _gather(self) -> None:
        seconds = self._gather_from + GATHER_SECONDS - time.monotonic()
        if seconds > 0 and not self._handoff.is_full_batch:
            self._stopping.wait(seconds)

    def _idle_seconds(self) -> float:
        """Return the seconds until work is due without new events."""
        return self._mark_at - time.monotonic() if self._sent else POLL_SECONDS

    def _give_up_claims(self) -> list[OutboxRow]:
        """Change the claimant, so that no new event overtakes rows claimed before.

        Return the rows that were in memory.
        """
        self._claimant = str(uuid.uuid4())
        self._sent.clear()
        return self._handoff.rename_claimant(None)

    def _relay_handoff(self) -> bool:
        """Publish rows that this process has just committed. Return False if there were none."""
        rows = self._handoff.take(MAX_EVENTS_TAKEN)
        if rows:
            self._gather_from = time.monotonic()
            self._send(rows)
        return bool(rows)

    def _relay_left_behind(self) -> bool:
        """Publish rows of the table, when a search is due. Return True if there may be more."""
        has_unclaimed = self._handoff.take_unclaimed_flag()
        if not has_unclaimed and time.monotonic() < self._next_poll:
            return False
        if (has_unclaimed or self._has_due()) and self.relay() == MAX_ROWS_CLAIMED:
            return True
        self._next_poll = time.monotonic() + POLL_SECONDS
        return False

    def _has_due(self) -> bool:
        with self._store.transaction(read_only=True) as tx:
            return tx.has_due()

    def relay(self) -> int:
        """Claim rows of the table and publish them. Return the number of claimed rows."""
        with self._store.transaction() as tx:
            rows = tx.claim(self._claimant, MAX_ROWS_CLAIMED)
        if rows:
            self._send(rows)
        return len(rows)

    def _send(self, rows: Sequence[OutboxRow]) -> None:
        plan = SendPlan(rows)
        end = time.monotonic() + CLAIM.total_seconds() / 2
        try:
            while time.monotonic() < end and (wave := plan.next_wave()):
                plan.record(wave, self._publish(wave))
        finally:  # after an error, too: rows without a result are sent again
            self._settle(plan)

    def _publish(self, messages: Sequence[EventMessage]) -> list[PublishResult]:
        return self._publisher.publish(messages)

    def _settle(self, plan: SendPlan) -> None:
        """Keep the numbers of sent rows for `_mark_sent`, and release the unsent rows."""
        if not self._sent:
            self._mark_at = time.monotonic() + MARK_SECONDS
        self._sent += plan.sent
        if unsent := plan.unsent:
            held = [row.seq for row in unsent if plan.is_held(row)]
            free = [row.seq for row in unsent if not plan.is_held(row)]
            if held:
                results = ", ".join(sorted({result.name for result in plan.held.values()}))
                log.warning("%d outbox rows wait, because events were %s", len(held), results)
            self._release(held, free)

    def _release(self, held: Sequence[int], free: list[int]) -> None:
        """Release `held` rows for an attempt after RETRY_PAUSE, and `free` rows for an attempt at once.

        The rows in memory are released too, because they may have to wait behind these rows.
        """
        claimant, sent = self._claimant, list(self._sent)
        free += [row.seq for row in self._give_up_claims()]
        with self._store.transaction() as tx:
            if sent:
                tx.mark_sent(claimant, sent)
            if held:
                tx.release(claimant, held, until=tx.now() + RETRY_PAUSE)
            if free:
                tx.release(claimant, free)
        self._handoff.offer((), None, has_unclaimed=True)

    def _mark_sent(self) -> None:
        if self._sent:
            with self._store.transaction() as tx:
                tx.mark_sent(self._claimant, self._sent)
            self._sent.clear()

    def _prune_when_due(self) -> None:
        if time.monotonic() < self._next_pruning:
            return
        self._next_pruning = time.monotonic() + PRUNE_SECONDS
        pruned = PRUNE_BATCH
        while pruned == PRUNE_BATCH and not self._stopping.is_set():
            with self._store.transaction() as tx:
                pruned = tx.prune(KEEP_SENT, PRUNE_BATCH)
