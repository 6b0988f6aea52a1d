"""Plans the sending of claimed rows, without I/O: which messages leave together, and which rows wait.

    plan = SendPlan(rows)
    while wave := plan.next_wave():
        plan.record(wave, publisher.publish(wave))
    plan.sent, plan.held

The events of one aggregate leave in the order of their commits, even if the broker refuses some of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.outbox.messages import EventMessage, messages_of
from nameko_mesh.outbox.rows import OutboxRow

MAX_EVENTS_PER_WAVE = 500
"""Limit of a wave, so that its claims do not expire while it is published."""


class SendPlan:
    """The plan for some rows.

    `sent` holds the numbers of the rows that the broker has. `held` maps each aggregate with a failed event
    to the result of that event. Later events of the aggregate wait behind the failed event.
    """

    def __init__(self, rows: Sequence[OutboxRow]) -> None:
        self.rows = rows
        self.sent: list[int] = []
        self.held: dict[str, PublishResult] = {}
        self._waiting = messages_of(rows)

    def next_wave(self) -> list[EventMessage]:
        """Return messages that may leave together. An empty list means that nothing is left to send."""
        wave, self._waiting = plan_wave(self._waiting)
        return wave

    def record(self, wave: Sequence[EventMessage], results: Sequence[PublishResult]) -> None:
        """Take the results of a wave into account."""
        failed: dict[str, PublishResult] = {}
        for message, result in zip(wave, results, strict=True):
            if result is not PublishResult.CONFIRMED:
                failed |= dict.fromkeys(message.aggregate_ids - failed.keys(), result)
            else:  # rows that left after a failed event of their aggregate are sent again
                self.sent += [row.seq for row in message.rows if not _hold_if_behind(row, failed)]
        if failed:
            self._hold(failed)

    def _hold(self, failed: dict[str, PublishResult]) -> None:
        """Keep rows behind failed events. Rows that only share a message with such rows need not wait."""
        self.held = failed | self.held
        waiting_rows = sorted(row for message in self._waiting for row in message.rows)
        self._waiting = messages_of(row for row in waiting_rows if not _hold_if_behind(row, self.held))

    @property
    def unsent(self) -> list[OutboxRow]:
        sent = frozenset(self.sent)
        return [row for row in self.rows if row.seq not in sent]

    def is_held(self, row: OutboxRow) -> bool:
        """Return True if the row failed, or waits behind a failed event of one of its aggregates."""
        return not self.held.keys().isdisjoint(row.aggregate_ids)


def _hold_if_behind(row: OutboxRow, held: dict[str, PublishResult]) -> bool:
    """Return True if an aggregate of the row is held. Then hold all aggregates of the row."""
    results = [held[aggregate_id] for aggregate_id in row.aggregate_ids if aggregate_id in held]
    if results:
        held.update(dict.fromkeys(row.aggregate_ids - held.keys(), results[0]))
    return bool(results)


def plan_wave(messages: Sequence[EventMessage]) -> tuple[list[EventMessage], list[EventMessage]]:
    """Split messages: the first may leave now, the second wait for the results of the first.

    A message of several events, or an awaited message, may come back from the broker. So later messages of
    its aggregates wait. After a single event only events of its own type may follow, because single events of
    another type may leave earlier (outbox.publisher).
    """
    wave: list[EventMessage] = []
    waiting: list[EventMessage] = []
    follower_types: dict[str, str | None] = {}
    """By aggregate, the type that may still follow in this wave; None when no type may."""
    room = MAX_EVENTS_PER_WAVE
    for message in messages:
        may_leave = all(
            follower_types.get(aggregate_id, message.type) == message.type
            for aggregate_id in message.aggregate_ids
        )
        follower_type = None
        if may_leave and room > 0:
            wave.append(message)
            room -= message.size
            if message.size == 1 and not message.awaited:
                follower_type = message.type
        else:
            waiting.append(message)
        follower_types |= dict.fromkeys(message.aggregate_ids, follower_type)
    return wave, waiting
