"""Events: what a service tells the world about a change that it has committed.

A published event is a promise for ever, so its schema is a frozen dataclass of primitives with
a `TYPE` and a `VERSION`; on the wire it travels in an envelope that is the same for all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all published events; a subclass adds its `data` as fields."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    AGGREGATE: ClassVar[str]
    """The field that holds the id of what changed."""
    AWAITED: ClassVar[bool] = False
    """Some service must receive it: while no queue is bound, the relay keeps it and tries again."""

    @property
    def aggregate_id(self) -> str:
        return str(getattr(self, self.AGGREGATE))


@dataclass(slots=True, kw_only=True)  # not frozen: that would double the time it takes to make one
class Envelope:
    """An event on its way. `aggregate_version` grows by one with each change of the aggregate,
    so that a consumer can tell news from what it has seen."""

    event_id: str
    type: str
    version: int
    occurred_at: str
    aggregate_id: str
    aggregate_version: int
    data: Event

    def to_json(self) -> bytes:
        return orjson.dumps(self)


@lru_cache  # what happens together happens at one moment
def timestamp(moment: datetime) -> str:
    """An aware moment as it travels: ISO 8601, in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seal(event: Event, aggregate_version: int, occurred_at: str) -> Envelope:
    """Put an event into its envelope, under a new id. `occurred_at` is a `timestamp`."""
    return Envelope(
        event_id=_new_id(),
        type=event.TYPE,
        version=event.VERSION,
        occurred_at=occurred_at,
        aggregate_id=event.aggregate_id,
        aggregate_version=aggregate_version,
        data=event,
    )


def _new_id() -> str:
    """A random UUID (RFC 9562, version 4) as text. The standard library makes an object of each, which takes
    longer than all the rest of an envelope."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
