"""An outbox row as the relay handles it, and the grouping of events that share a row or a message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import orjson

from nameko_mesh.events.schema import MAX_EVENTS_PER_MESSAGE

T = TypeVar("T")


class OutboxRow(NamedTuple):
    """An inserted row.

    `envelopes` is a JSON list of `size` envelopes, and `first` is the first envelope alone. Events of an
    `awaited` row must reach a queue: while no queue takes them, the row is kept.
    """

    seq: int
    type: str
    awaited: bool
    aggregate_ids: frozenset[str]
    size: int
    envelopes: bytes
    first_event_id: str
    first: bytes

    @property
    def events(self) -> list[Any]:
        """The envelopes, each decoded."""
        events: list[Any] = orjson.loads(self.envelopes)
        return events


def group(
    items: Iterable[T],
    *,
    key: Callable[[T], Hashable],
    aggregate_ids: Callable[[T], Collection[str]],
    size: Callable[[T], int] = lambda item: 1,
    may_join: Callable[[T], bool] = lambda item: True,
) -> list[list[T]]:
    """Group items of one key into few groups that keep the order of the events of each aggregate.

    A group holds at most MAX_EVENTS_PER_MESSAGE events. An item for which `may_join` is False
    forms its own group.
    """
    groups: list[list[T]] = []
    sizes: list[int] = []
    open_groups: dict[Hashable, int] = {}
    latest_group: dict[str, int] = {}
    for item in items:
        ids, item_key, item_size = aggregate_ids(item), key(item), size(item)
        number = open_groups.get(item_key, -1)
        for aggregate_id in ids:
            if latest_group.get(aggregate_id, -1) > number:
                number = -1  # joining the open group would overtake an earlier event of the aggregate
                break
        if number < 0 or sizes[number] + item_size > MAX_EVENTS_PER_MESSAGE or not may_join(item):
            number = len(groups)
            groups.append([])
            sizes.append(0)
            if may_join(item):
                open_groups[item_key] = number
        groups[number].append(item)
        sizes[number] += item_size
        for aggregate_id in ids:
            latest_group[aggregate_id] = number
    return groups
