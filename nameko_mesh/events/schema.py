"""The schema of events: what a service publishes about changes that it has committed.

A published event is a promise for ever. Its schema is a frozen dataclass of primitives with a `TYPE` and a
`VERSION`. On the wire it travels in an envelope that is the same for all events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, TypedDict

from uuid_utils import uuid4

MAX_EVENTS_PER_MESSAGE = 100
"""Events that share an outbox row or a message."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all published events. A subclass adds its `data` as fields.

    Events have no slots because orjson writes a dataclass with slots at a fifth of the speed.
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    AGGREGATE: ClassVar[str]
    """The field that holds the id of what changed."""
    AWAITED: ClassVar[bool] = False
    """Some service must receive the event: while no queue is bound, the relay keeps it and tries again."""


class Envelope(TypedDict):
    """An event with what consumers need to handle it.

    `aggregate_version` grows by one with each change of the aggregate, so that a consumer can tell newer from
    older events.
    """

    event_id: str
    type: str
    version: int
    occurred_at: str
    aggregate_id: str
    aggregate_version: int
    data: Event


@lru_cache  # the events of one transaction share a moment
def timestamp(moment: datetime) -> str:
    """Return an aware moment as ISO 8601 text, in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def sealed(events: Iterable[tuple[Event, int]], occurred_at: str) -> list[Envelope]:
    """Put events, each with the version of its aggregate, into envelopes with new ids.

    `occurred_at` is a `timestamp`.
    """
    return [
        {
            "event_id": str(uuid4()),
            "type": event.TYPE,
            "version": event.VERSION,
            "occurred_at": occurred_at,
            "aggregate_id": str(getattr(event, event.AGGREGATE)),
            "aggregate_version": aggregate_version,
            "data": event,
        }
        for event, aggregate_version in events
    ]
