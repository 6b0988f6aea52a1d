"""How events get into the outbox.

A row of it is a bundle: what one transaction has to tell, by type. It is usually claimed by the relay of
its own process in the statement that writes it, and handed over in memory after the commit (mesh.news): the
relay need not look for it. Whatever goes wrong then, the row is there, its claim runs out, and some relay
finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from mesh import tables
from mesh.sets import Row, Write

CLAIM = timedelta(seconds=10)
"""How long a claim holds. A relay publishes for half of it and gives the rest back."""
MOST_TOGETHER = 100
"""Events in a bundle."""
_MOST_LOOKED_AT = 100
"""Bundles in other hands; where there are more of them a new one is not claimed."""

_INSERT = f"""
INSERT INTO outbox (first_event_id, type, awaited, aggregate_ids, envelopes, created_at,
                    claimed_by, claimed_until)
WITH new AS (
    SELECT one.*, ARRAY(SELECT json_array_elements_text(one.aggregates::json)) AS aggregate_ids
    FROM unnest({{0}}, {{1}}, {{2}}, {{3}}, {{4}}) WITH ORDINALITY
         AS one(first_event_id, type, awaited, aggregates, envelopes, number)
),
others AS (
    SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by IS DISTINCT FROM {{5}}
    LIMIT {_MOST_LOOKED_AT}
)
SELECT first_event_id, type, awaited, aggregate_ids, envelopes::json, clock_timestamp(), claimant,
       CASE WHEN claimant IS NOT NULL THEN clock_timestamp() + interval '{CLAIM.total_seconds()} s' END
FROM (
    SELECT new.*, CASE
        WHEN (SELECT count(*) FROM others) < {_MOST_LOOKED_AT}
        AND NOT EXISTS (SELECT FROM others WHERE others.aggregate_ids && new.aggregate_ids)
        THEN {{5}} END AS claimant
    FROM new
) AS one
ORDER BY number
RETURNING seq, first_event_id, claimed_by
"""  # noqa: S608 - no part of it comes from outside
"""Of an aggregate that has an event in other hands no new one is claimed: it has to wait behind that.
Whoever publishes for an aggregate has changed its row, if it was still what this statement can see: so none
is overlooked. The envelopes are a value of
their own: in a document PostgreSQL would read them three times over."""
_TOLD = """
json_agg(json_build_array(written.seq, written.first_event_id)) FILTER (WHERE written.claimed_by IS NOT NULL)
"""
_unclaimed = tables.outbox.insert()


class Kept(NamedTuple):
    """An event on its way into the outbox. `envelope` is JSON."""

    event_id: str
    type: str
    aggregate_id: str
    awaited: bool
    envelope: bytes


class Outgoing(NamedTuple):
    """A bundle that is in the outbox, as the relay takes it: of each event its id and its envelope."""

    seq: int
    type: str
    awaited: bool
    aggregate_ids: frozenset[str]
    events: Sequence[tuple[str, bytes]]


def bundled(events: Iterable[Kept]) -> list[list[Kept]]:
    """The events by type, as few bundles as keep the order of those of one aggregate."""
    bundles: list[list[Kept]] = []
    open_one: dict[str, int] = {}
    latest: dict[str, int] = {}
    for event in events:
        number = open_one.get(event.type, -1)
        before = latest.get(event.aggregate_id, -1)
        if number < 0 or number < before or len(bundles[number]) == MOST_TOGETHER:
            number = open_one[event.type] = len(bundles)
            bundles.append([])
        bundles[number].append(event)
        latest[event.aggregate_id] = number
    return bundles


def insert(
    bundles: Sequence[Sequence[Kept]], claimant: str | None, claimed: Callable[[list[Outgoing]], None]
) -> Write:
    """`claimed` gets the bundles that the statement has claimed: none without a claimant, or on SQLite."""

    def execute(connection: sa.Connection) -> None:
        connection.execute(_unclaimed, [_plain(bundle) for bundle in bundles])

    def hear(told: Sequence[Sequence[Any]] | None) -> None:
        claimed(_claimed(told or (), bundles))

    firsts = [bundle[0] for bundle in bundles]
    values = (
        ("text[]", [first.event_id for first in firsts]),
        ("text[]", [first.type for first in firsts]),
        ("bool[]", [first.awaited for first in firsts]),
        ("text[]", [orjson.dumps(_aggregate_ids(bundle)).decode() for bundle in bundles]),
        ("text[]", [_envelopes(bundle).decode() for bundle in bundles]),
        ("text", claimant),
    )
    return Write(_INSERT, values, execute, _TOLD, hear)


def _plain(bundle: Sequence[Kept]) -> Row:
    """As SQLAlchemy takes it: SQLite's relay looks for what it sends, for it alone writes there."""
    first = bundle[0]
    return {
        "first_event_id": first.event_id,
        "type": first.type,
        "awaited": first.awaited,
        "aggregate_ids": _aggregate_ids(bundle),
        "envelopes": orjson.loads(_envelopes(bundle)),
        "created_at": datetime.now(UTC),
    }


def _aggregate_ids(bundle: Sequence[Kept]) -> list[str]:
    return sorted({event.aggregate_id for event in bundle})


def _envelopes(bundle: Sequence[Kept]) -> bytes:
    return b"[" + b",".join([event.envelope for event in bundle]) + b"]"


def _claimed(told: Iterable[Sequence[Any]], bundles: Sequence[Sequence[Kept]]) -> list[Outgoing]:
    """Of the bundles, those of which a number is told with the first event's id, in their order."""
    numbers = {first: seq for seq, first in told}
    return [
        Outgoing(
            numbers[first.event_id],
            first.type,
            first.awaited,
            frozenset(event.aggregate_id for event in bundle),
            [(event.event_id, event.envelope) for event in bundle],
        )
        for bundle in bundles
        if (first := bundle[0]).event_id in numbers
    ]


def clock(dialect: str) -> Any:
    """The database's clock as an expression, the one that all instances of a service share."""
    if dialect == "postgresql":
        return sa.func.clock_timestamp()
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now")
