"""How events get into the outbox.

A row of it is a bundle: what one transaction has to tell, by type. It is usually claimed by the relay of
its own process in the statement that writes it, and handed over in memory after the commit
(nameko_mesh.outbox.handoff): the relay need not look for it.
Whatever goes wrong then, the row is there, its claim runs out, and some relay
finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from nameko_mesh.events.schema import MOST_TOGETHER, Envelope
from nameko_mesh.sql import tables
from nameko_mesh.sql.write_batch import Row, Statement

CLAIM = timedelta(seconds=10)
"""How long a claim holds. A relay publishes for half of it and gives the rest back."""
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
    (SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by IS NULL ORDER BY claimed_by)
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by < {{5}}
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by > {{5}}
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
is overlooked. The others are looked for on both sides of the claimant's own name in the index, for most of
what is unsent is its own; the order is asked for because PostgreSQL thinks another index as good. The
envelopes are a value of their own: in a document PostgreSQL would read them three times over."""
_TOLD = """
json_agg(json_build_array(written.seq, written.first_event_id)) FILTER (WHERE written.claimed_by IS NOT NULL)
"""
_unclaimed = tables.outbox.insert()


class OutboxRow(NamedTuple):
    """A bundle that is in the outbox, as the relay takes it: `size` envelopes, as the JSON of a list, and
    the first of them for itself."""

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


def bundled(events: Iterable[Envelope]) -> list[list[Envelope]]:
    """The events by type, as few bundles as keep the order of those of one aggregate."""
    bundles: list[list[Envelope]] = []
    open_one: dict[str, int] = {}
    latest: dict[str, int] = {}
    for event in events:
        kind, aggregate_id = event["type"], event["aggregate_id"]
        number = open_one.get(kind, -1)
        before = latest.get(aggregate_id, -1)
        if number < 0 or number < before or len(bundles[number]) == MOST_TOGETHER:
            number = open_one[kind] = len(bundles)
            bundles.append([])
        bundles[number].append(event)
        latest[aggregate_id] = number
    return bundles


def insert(
    bundles: Sequence[Sequence[Envelope]], claimant: str | None, claimed: Callable[[list[OutboxRow]], None]
) -> Statement:
    """`claimed` gets the bundles that the statement has claimed: none without a claimant, or on SQLite."""
    rows = [_row(bundle) for bundle in bundles]

    def execute(connection: sa.Connection) -> None:
        connection.execute(_unclaimed, [_plain(row) for row in rows])

    def on_result(told: Iterable[tuple[int, str]] | None) -> None:
        numbers = {first: seq for seq, first in told or ()}
        claimed(
            [_outgoing(numbers[row.first_event_id], row) for row in rows if row.first_event_id in numbers]
        )

    values = (
        ("text[]", [row.first_event_id for row in rows]),
        ("text[]", [row.type for row in rows]),
        ("bool[]", [row.awaited for row in rows]),
        ("text[]", [orjson.dumps(row.aggregate_ids).decode() for row in rows]),
        ("text[]", [row.envelopes.decode() for row in rows]),
        ("text", claimant),
    )
    return Statement(_INSERT, values, execute, _TOLD, on_result)


class _Row(NamedTuple):
    first_event_id: str
    type: str
    awaited: bool
    aggregate_ids: list[str]
    size: int
    envelopes: bytes
    first: bytes


def _row(bundle: Sequence[Envelope]) -> _Row:
    first = bundle[0]
    return _Row(
        first["event_id"],
        first["type"],
        first["data"].AWAITED,
        sorted({event["aggregate_id"] for event in bundle}),
        len(bundle),
        orjson.dumps(bundle),
        orjson.dumps(first),
    )


def _outgoing(seq: int, row: _Row) -> OutboxRow:
    ids = frozenset(row.aggregate_ids)
    return OutboxRow(seq, row.type, row.awaited, ids, row.size, row.envelopes, row.first_event_id, row.first)


def _plain(row: _Row) -> Row:
    """As SQLAlchemy takes it: SQLite's relay looks for what it sends, for it alone writes there."""
    return {
        "first_event_id": row.first_event_id,
        "type": row.type,
        "awaited": row.awaited,
        "aggregate_ids": row.aggregate_ids,
        "envelopes": orjson.loads(row.envelopes),
        "created_at": datetime.now(UTC),
    }
