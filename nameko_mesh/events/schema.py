"""Events: what a service tells the world about a change that it has committed.

A published event is a promise for ever, so its schema is a frozen dataclass of primitives with
a `TYPE` and a `VERSION`; on the wire it travels in an envelope that is the same for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, TypedDict

from nameko_mesh.values import value


@value(kw_only=True)
class Event:
    """Base of all published events; a subclass adds its `data` as fields."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    AGGREGATE: ClassVar[str]
    """The field that holds the id of what changed."""
    AWAITED: ClassVar[bool] = False
    """Some service must receive it: while no queue is bound, the relay keeps it and tries again."""


class Envelope(TypedDict):
    """An event on its way. `aggregate_version` grows by one with each change of the aggregate,
    so that a consumer can tell news from what it has seen."""

    event_id: str
    type: str
    version: int
    occurred_at: str
    aggregate_id: str
    aggregate_version: int
    data: Event


@lru_cache  # what happens together happens at one moment
def timestamp(moment: datetime) -> str:
    """An aware moment as it travels: ISO 8601, in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def sealed(news: Iterable[tuple[Event, int]], occurred_at: str) -> list[Envelope]:
    """Events, each with the version of its aggregate, in envelopes with new ids. `occurred_at` is a
    `timestamp`."""
    news = list(news)
    return [
        {
            "event_id": event_id,
            "type": event.TYPE,
            "version": event.VERSION,
            "occurred_at": occurred_at,
            "aggregate_id": str(getattr(event, event.AGGREGATE)),
            "aggregate_version": aggregate_version,
            "data": event,
        }
        for event_id, (event, aggregate_version) in zip(_new_ids(len(news)), news, strict=True)
    ]


def _new_ids(count: int) -> Iterator[str]:
    """Random UUIDs (RFC 9562, version 4) as text. The standard library makes an object of each, which takes
    longer than all the rest of an envelope."""
    digits = os.urandom(16 * count).hex()
    for start in range(0, len(digits), 32):
        one = digits[start : start + 32]
        variant = "89ab"[int(one[16], 16) & 3]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"


MOST_TOGETHER = 100
"""Events in a bundle."""
