"""The schema of published events: the base class of their data, and their envelope on the wire.

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
"""Limit of the events that share an outbox row or a message."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all published events. A subclass adds its `data` as fields.

    Events have no slots because orjson writes a dataclass with slots at a fifth of the speed.
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    AGGREGATE: ClassVar[str]
    """The name of the field with the id of the changed object."""
    AWAITED: ClassVar[bool] = False
    """True if some service must receive the event. While no queue is bound, the relay keeps the event."""


class Envelope(TypedDict):
    """An event on the wire, with its id, type, version, time and aggregate.

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


@lru_cache  # the events of a transaction have the same moment
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
