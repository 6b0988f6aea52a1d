"""Events on both of their ways: bundles for handlers of the mesh, one by one for whoever else listens."""

from __future__ import annotations

from collections.abc import Sequence

from mesh import event_routes
from mesh.confirms import ConfirmedPublisher, Fate, Parcel
from mesh.outgoing import Outgoing

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
        """The fate of each. Whether anybody listens to single events is told by the fate of the first.

        Raises Unavailable when not all fates are known in time.
        """
        wholes = [
            Parcel(f"{row.events[0][0]}+", self._bundles, row.type, _whole(row), row.awaited) for row in rows
        ]
        firsts = [_single(self._plain, row, *row.events[0], mandatory=True) for row in rows]
        fates = self._publisher.publish([*wholes, *firsts], CONFIRM_SECONDS)
        both = list(zip(rows, fates, fates[len(rows) :], strict=False))
        heard = [row for row, _, first in both if first is Fate.KEPT]
        refused = self._publish_others(
            [(row.seq, _single(self._plain, row, *event)) for row in heard for event in row.events[1:]]
        )
        return [
            Fate.REFUSED if row.seq in refused else _joint(whole, first, row.awaited)
            for row, whole, first in both
        ]

    def _publish_others(self, parcels: Sequence[tuple[int, Parcel]]) -> set[int]:
        """Returns the rows of which the broker refused one."""
        refused: set[int] = set()
        for start in range(0, len(parcels), MOST_AT_ONCE):
            some = parcels[start : start + MOST_AT_ONCE]
            fates = self._publisher.publish([parcel for _, parcel in some], CONFIRM_SECONDS)
            refused |= {seq for (seq, _), fate in zip(some, fates, strict=True) if fate is Fate.REFUSED}
        return refused


def _whole(row: Outgoing) -> bytes:
    """One event as it is alone, several as a list of them."""
    envelopes = [envelope for _, envelope in row.events]
    return envelopes[0] if len(envelopes) == 1 else b"[" + b",".join(envelopes) + b"]"


def _single(
    exchange: str, row: Outgoing, event_id: str, envelope: bytes, *, mandatory: bool = False
) -> Parcel:
    return Parcel(event_id, exchange, row.type, envelope, mandatory, event_routes.MARK)


def _joint(whole: Fate, first: Fate, awaited: bool) -> Fate:
    """Of a row, by the fates of its two ways."""
    if Fate.REFUSED in (whole, first):
        return Fate.REFUSED
    return Fate.UNROUTABLE if awaited and whole is first is Fate.UNROUTABLE else Fate.KEPT
