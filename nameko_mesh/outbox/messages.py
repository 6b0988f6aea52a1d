"""Joins outbox rows of one type into the messages that leave together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import orjson

from nameko_mesh.outbox.rows import OutboxRow, group


class EventMessage:
    """Outbox rows of one type, as one message."""

    __slots__ = ("aggregate_ids", "awaited", "rows", "size", "type")

    def __init__(self, rows: Sequence[OutboxRow]) -> None:
        self.rows = rows
        self.type = rows[0].type
        self.awaited = rows[0].awaited
        self.aggregate_ids = frozenset().union(*(row.aggregate_ids for row in rows))
        self.size = sum(row.size for row in rows)

    @property
    def first(self) -> OutboxRow:
        return self.rows[0]

    @property
    def body(self) -> bytes:
        """The JSON of the envelopes: an object for a single event, or else a list."""
        if self.size == 1:
            return self.first.first
        return b"[" + b",".join([row.envelopes[1:-1] for row in self.rows]) + b"]"

    def events(self) -> list[tuple[str, bytes]]:
        """Return the id and the JSON of each event."""
        events = [event for row in self.rows for event in row.events]
        return [(event["event_id"], orjson.dumps(event)) for event in events]


def messages_of(rows: Iterable[OutboxRow]) -> list[EventMessage]:
    """Group rows into few messages that keep the order of the events of each aggregate.

    A handler takes the events of one message one after the other, but several messages at once. So an event
    that was committed alone travels alone.
    """
    groups = group(
        rows,
        key=lambda row: (row.type, row.awaited),
        aggregate_ids=attrgetter("aggregate_ids"),
        size=attrgetter("size"),
        may_join=lambda row: row.size > 1,
    )
    return [EventMessage(rows_of_message) for rows_of_message in groups]
