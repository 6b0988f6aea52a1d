"""Groups outbox rows into messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nameko_mesh.events.schema import MOST_TOGETHER
from nameko_mesh.outbox.insertion import OutboxRow


@dataclass(slots=True)
class EventMessage:
    """Rows of one type, as one message."""

    type: str
    awaited: bool
    rows: list[OutboxRow] = field(default_factory=list)
    aggregate_ids: set[str] = field(default_factory=set)
    size: int = 0

    @property
    def first(self) -> OutboxRow:
        return self.rows[0]

    def has_room(self, row: OutboxRow) -> bool:
        return row.awaited == self.awaited and self.size + row.size <= MOST_TOGETHER

    def add(self, row: OutboxRow) -> None:
        self.rows.append(row)
        self.aggregate_ids |= row.aggregate_ids
        self.size += row.size


def messages_of(rows: Iterable[OutboxRow]) -> list[EventMessage]:
    """As few messages as keep the order of the events of one aggregate: a handler takes those of a message
    one after the other. An event that was committed alone travels alone, for of several messages a handler
    has several in work at once."""
    messages: list[EventMessage] = []
    open_one: dict[str, int] = {}
    latest: dict[str, int] = {}
    for row in rows:
        number = open_one.get(row.type, -1)
        before = max(latest.get(aggregate_id, -1) for aggregate_id in row.aggregate_ids)
        if row.size == 1 or number < before or number < 0 or not messages[number].has_room(row):
            number = len(messages)
            messages.append(EventMessage(row.type, row.awaited))
            if row.size > 1:
                open_one[row.type] = number
        messages[number].add(row)
        latest |= dict.fromkeys(row.aggregate_ids, number)
    return messages
