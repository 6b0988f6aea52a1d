"""An outbox row as the relay handles it, and the grouping of events that share a row or a message."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
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
    aggregate_ids: Callable[[T], Iterable[str]],
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
        ids = list(aggregate_ids(item))
        number = open_groups.get(key(item), -1)
        is_overtaking = number < max(latest_group.get(aggregate_id, -1) for aggregate_id in ids)
        is_full = number >= 0 and sizes[number] + size(item) > MAX_EVENTS_PER_MESSAGE
        if number < 0 or is_overtaking or is_full or not may_join(item):
            number = len(groups)
            groups.append([])
            sizes.append(0)
            if may_join(item):
                open_groups[key(item)] = number
        groups[number].append(item)
        sizes[number] += size(item)
        latest_group.update(dict.fromkeys(ids, number))
    return groups
