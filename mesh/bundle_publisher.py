"""Events on both of their ways: bundles for handlers of the mesh, one by one for whoever else listens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mesh import event_routes
from mesh.confirms import ConfirmedPublisher, Fate, Parcel
from mesh.outgoing import MOST_TOGETHER, Outgoing

CONFIRM_SECONDS = 3.0
MOST_AT_ONCE = 500
"""Messages that leave before the confirms of those before them are there."""


class BundlePublisher:
    """Publishes the events of one service. For one green thread at a time."""

    def __init__(self, service: str) -> None:
        plain, bundles = event_routes.plain(service), event_routes.bundles(service)
        self._plain, self._bundles = plain.name, bundles.name
        self._publisher = ConfirmedPublisher(plain, bundles)

    def close(self) -> None:
        self._publisher.close()

    def publish(self, rows: Sequence[Outgoing]) -> list[Fate]:
        """The fate of each. Rows of one type leave as one message. Whether anybody listens to single events
        is told by the fate of the first.

        Raises Unavailable when not all fates are known in time.
        """
        joined = _joined(rows)
        firsts = [_single(self._plain, one, one.rows[0].events[0], mandatory=True) for one in joined]
        wholes = [
            Parcel(f"{first.message_id}+", self._bundles, one.type, _whole(one, first), one.awaited)
            for one, first in zip(joined, firsts, strict=True)
        ]
        fates = self._publisher.publish([*wholes, *firsts], CONFIRM_SECONDS)
        both = list(zip(joined, fates, fates[len(joined) :], strict=False))
        heard = [(number, one) for number, (one, _, first) in enumerate(both) if first is Fate.KEPT]
        refused = self._publish_others(
            [(number, _single(self._plain, one, event)) for number, one in heard for event in _others(one)]
        )
        fate_of = {
            row.seq: Fate.REFUSED if number in refused else _joint(whole, first, one.awaited)
            for number, (one, whole, first) in enumerate(both)
            for row in one.rows
        }
        return [fate_of[row.seq] for row in rows]

    def _publish_others(self, parcels: Sequence[tuple[int, Parcel]]) -> set[int]:
        """Returns the numbers of those of which the broker refused one."""
        refused: set[int] = set()
        for start in range(0, len(parcels), MOST_AT_ONCE):
            some = parcels[start : start + MOST_AT_ONCE]
            fates = self._publisher.publish([parcel for _, parcel in some], CONFIRM_SECONDS)
            refused |= {number for (number, _), fate in zip(some, fates, strict=True) if fate is Fate.REFUSED}
        return refused


@dataclass(slots=True)
class _Joined:
    """Rows of one type, as one message."""

    type: str
    awaited: bool
    rows: list[Outgoing] = field(default_factory=list)
    size: int = 0

    def has_room(self, row: Outgoing) -> bool:
        return row.awaited == self.awaited and self.size + row.size <= MOST_TOGETHER

    def add(self, row: Outgoing) -> None:
        self.rows.append(row)
        self.size += row.size


def _joined(rows: Iterable[Outgoing]) -> list[_Joined]:
    """As few as keep the order of the events of one aggregate. Two of those share a message only when they
    were committed together, and one that was committed alone travels alone: a handler begins with messages
    in their order, and works on several at once."""
    joined: list[_Joined] = []
    open_one: dict[str, int] = {}
    latest: dict[str, int] = {}
    for row in rows:
        number = open_one.get(row.type, -1)
        before = max(latest.get(aggregate_id, -1) for aggregate_id in row.aggregate_ids)
        if row.size == 1 or number <= before or not joined[number].has_room(row):
            number = len(joined)
            joined.append(_Joined(row.type, row.awaited))
            if row.size > 1:
                open_one[row.type] = number
        joined[number].add(row)
        latest |= dict.fromkeys(row.aggregate_ids, number)
    return joined


def _whole(one: _Joined, first: Parcel) -> bytes:
    """One event as it is alone, several as a list of them."""
    if one.size == 1:
        return first.body
    return b"[" + b",".join([row.envelopes[1:-1] for row in one.rows]) + b"]"


def _others(one: _Joined) -> list[Any]:
    """All of its events but the first."""
    return [event for row in one.rows for event in row.events][1:]


def _single(exchange: str, one: _Joined, event: Any, *, mandatory: bool = False) -> Parcel:
    return Parcel(event["event_id"], exchange, one.type, orjson.dumps(event), mandatory, event_routes.MARK)


def _joint(whole: Fate, first: Fate, awaited: bool) -> Fate:
    """Of a message, by the fates of its two ways."""
    if Fate.REFUSED in (whole, first):
        return Fate.REFUSED
    return Fate.UNROUTABLE if awaited and whole is first is Fate.UNROUTABLE else Fate.KEPT
