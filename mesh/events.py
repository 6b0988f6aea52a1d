"""Events: what a service tells the world about a change that it has committed.

A published event is a promise for ever, so its schema is a frozen dataclass of primitives with
a `TYPE` and a `VERSION`; on the wire it travels in an envelope that is the same for all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An event on its way. `aggregate_version` grows by one with each change of the aggregate,
    so that a consumer can tell news from what it has seen."""

    event_id: str
    type: str
    version: int
    occurred_at: str
    aggregate_id: str
    aggregate_version: int
    data: Mapping[str, Any]

    def to_wire(self) -> dict[str, Any]:
        return _fields(self)


def timestamp(moment: datetime) -> str:
    """An aware moment as it travels: ISO 8601, in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seal(event: Event, aggregate_version: int, occurred_at: datetime | None = None) -> Envelope:
    """Put an event into its envelope, under a new id. `occurred_at` is now unless told."""
    moment = occurred_at or datetime.now(UTC)
    return Envelope(
        event_id=str(uuid.uuid4()),
        type=event.TYPE,
        version=event.VERSION,
        occurred_at=timestamp(moment),
        aggregate_id=event.aggregate_id,
        aggregate_version=aggregate_version,
        data=_fields(event),
    )


def _fields(value: Any) -> dict[str, Any]:
    """What a dataclass holds, by name. Of primitives all the way down, it needs no deep copy."""
    return {name: getattr(value, name) for name in _names(value.__class__)}


@lru_cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
