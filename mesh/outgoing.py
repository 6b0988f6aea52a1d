"""Events between the commit that caused them and the relay that takes them to the broker.

A row of the outbox is usually claimed by the relay of its own process in the statement that writes it,
and handed over in memory after the commit: the relay need not look for it. Whatever goes wrong then,
the row is there, its claim runs out, and some relay finds it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from mesh import tables
from mesh.sets import Row, Write

CLAIM = timedelta(seconds=10)
"""How long a claim holds. A relay publishes for half of it and gives the rest back."""
MOST_IN_MEMORY = 2000
"""Events that wait for the relay of their process; those after them wait in the table alone."""

_COLUMNS = "event_id, type, aggregate_id, awaited, envelope, created_at"
_CLAIMING = f"""
INSERT INTO outbox ({_COLUMNS}, claimed_by, claimed_until)
WITH new AS (SELECT * FROM json_populate_recordset(NULL::outbox, {{rows}}) WITH ORDINALITY)
SELECT {_COLUMNS}, claimant,
       CASE WHEN claimant IS NOT NULL THEN clock_timestamp() + interval '{CLAIM.total_seconds()} s' END
FROM (
    SELECT new.*, CASE WHEN others.aggregate_id IS NULL THEN new.claimed_by END AS claimant
    FROM new LEFT JOIN (
        SELECT DISTINCT aggregate_id FROM outbox
        WHERE sent_at IS NULL AND claimed_by IS DISTINCT FROM (SELECT claimed_by FROM new LIMIT 1)
    ) AS others ON others.aggregate_id = new.aggregate_id
) AS one
ORDER BY ordinality
RETURNING seq, event_id, claimed_by
"""  # noqa: S608 - no part of it comes from outside
"""Of an aggregate that has an event in other hands no new one is claimed: it has to wait behind that.
Whoever publishes for an aggregate holds its row locked, so none is overlooked."""


class Outgoing(NamedTuple):
    """An event that is in the outbox, as the relay takes it. `envelope` is JSON."""

    seq: int
    event_id: str
    type: str
    aggregate_id: str
    awaited: bool
    envelope: bytes


class Kept(NamedTuple):
    """An event on its way into the outbox."""

    event_id: str
    type: str
    aggregate_id: str
    awaited: bool
    envelope: bytes

    def row(self, claimant: str | None) -> Row:
        return {
            "event_id": self.event_id,
            "type": self.type,
            "aggregate_id": self.aggregate_id,
            "awaited": self.awaited,
            "envelope": orjson.Fragment(self.envelope),
            "created_at": datetime.now(UTC),
            "claimed_by": claimant,
        }


_UNCLAIMED = (
    f"INSERT INTO outbox ({_COLUMNS}) "  # noqa: S608 - no part of it comes from outside
    f"SELECT {_COLUMNS} FROM json_populate_recordset(NULL::outbox, {{rows}})"
)


def insert(events: Sequence[Kept], claimant: str | None) -> Write:
    """With a claimant its result tells of each event its number and who has claimed it."""
    return Write(
        _UNCLAIMED if claimant is None else _CLAIMING,
        [event.row(claimant) for event in events],
        lambda connection: connection.execute(_unclaimed, [_plain(event) for event in events]),
    )


_unclaimed = tables.outbox.insert()


def _plain(event: Kept) -> Row:
    """As SQLAlchemy takes it: SQLite's relay looks for what it sends, for it alone writes there."""
    return {**event.row(None), "envelope": orjson.loads(event.envelope)}


class News:
    """Hands committed events to the relay of this process, and wakes it."""

    def __init__(self) -> None:
        self.claimant: str | None = None
        """Who claims events as they are written; None while nobody here relays, or the broker is away."""
        self._events: deque[tuple[float, Outgoing]] = deque()
        self._rung = threading.Event()
        self._left_behind = False
        self._doubted = False

    @property
    def has_room(self) -> bool:
        return len(self._events) < MOST_IN_MEMORY

    def tell(self, claimed: Sequence[Outgoing], claimant: str | None, *, others: bool) -> None:
        """`others`: there are more, which the relay has to look for."""
        if claimant == self.claimant:
            now = time.monotonic()
            self._events.extend((now, event) for event in claimed)
        self._left_behind = self._left_behind or others
        self._rung.set()

    def doubt(self) -> None:
        """Nobody knows whether events were committed in this name: nothing more may be claimed in it,
        for that would overtake them."""
        self.claimant = None
        self._doubted = True
        self._rung.set()

    def take(self, most: int) -> list[Outgoing]:
        """The oldest of them. Raises TimeoutError when they have waited so long that their claim may end
        before they are published, or when their name is in doubt: they are to change hands."""
        doubted, self._doubted = self._doubted, False
        if doubted:
            raise TimeoutError("nobody knows whether events were committed")
        if self._events and self._events[0][0] < time.monotonic() - CLAIM.total_seconds() / 2:
            raise TimeoutError("events have waited too long for their relay")
        return [self._events.popleft()[1] for _ in range(min(most, len(self._events)))]

    def change_hands(self, claimant: str | None) -> list[Outgoing]:
        """Those that were claimed in another name are forgotten here, and returned."""
        if claimant == self.claimant:
            return []
        self.claimant = claimant
        forgotten = [event for _, event in self._events]
        self._events.clear()
        return forgotten

    def some_left_behind(self) -> bool:
        """Whether there has been anything to look for since this was asked last."""
        left, self._left_behind = self._left_behind, False
        return left

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Until there is news, or was since the last wait; no longer than `seconds`."""
        self._rung.wait(seconds)
        self._rung.clear()


def settled_by(result: Any, events: Sequence[Kept]) -> list[Outgoing]:
    """Of the events, those that the statement has claimed, in their order."""
    numbers = {event_id: seq for seq, event_id, claimed_by in result if claimed_by is not None}
    return [Outgoing(numbers[one.event_id], *one) for one in events if one.event_id in numbers]


def clock(connection: sa.Connection) -> Any:
    """The database's clock as an expression, the one that all instances of a service share."""
    if connection.dialect.name == "postgresql":
        return sa.func.clock_timestamp()
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now")
