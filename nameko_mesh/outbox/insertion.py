"""Turns published envelopes into outbox rows, and into the statement that inserts and claims them.

On PostgreSQL the statement also claims the rows for the relay of its own process. That relay gets the rows in
memory (outbox.handoff), and need not search for them. If the process dies, the claim expires and any relay
finds the rows. `insert.sql` decides whether a row may be claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from nameko_mesh.events.schema import Envelope
from nameko_mesh.outbox.rows import OutboxRow, group
from nameko_mesh.outbox.tables import outbox
from nameko_mesh.sql.sql_file import load_sql
from nameko_mesh.sql.statement import Row, Statement

CLAIM = timedelta(seconds=10)
"""The lifetime of a claim. A relay publishes for half of this time, and then releases the unsent rows."""
MAX_ROWS_COMPARED = 100
"""With more unsent rows of other claimants than this, a new row is not claimed."""

_INSERT = load_sql(
    __package__, "insert.sql", claim_seconds=CLAIM.total_seconds(), max_rows_compared=MAX_ROWS_COMPARED
)
_CLAIMED = (
    "json_agg(json_build_array(written.seq, written.first_event_id)) "
    "FILTER (WHERE written.claimed_by IS NOT NULL)"
)
_insert_unclaimed = outbox.insert()


class NewRow(NamedTuple):
    """An outbox row that is not inserted yet."""

    first_event_id: str
    type: str
    awaited: bool
    aggregate_ids: list[str]
    size: int
    envelopes: bytes
    first: bytes

    def inserted(self, seq: int) -> OutboxRow:
        ids = frozenset(self.aggregate_ids)
        return OutboxRow(
            seq, self.type, self.awaited, ids, self.size, self.envelopes, self.first_event_id, self.first
        )

    def for_sqlalchemy(self) -> Row:
        """Return the row for SQLite, without a claim: there the relay searches the table for all rows."""
        return {
            "first_event_id": self.first_event_id,
            "type": self.type,
            "awaited": self.awaited,
            "aggregate_ids": self.aggregate_ids,
            "envelopes": orjson.loads(self.envelopes),
            "created_at": datetime.now(UTC),
        }


def new_rows(envelopes: Iterable[Envelope]) -> list[NewRow]:
    """Group envelopes by type into rows that keep the order of the events of each aggregate."""
    groups = group(
        envelopes, key=lambda event: event["type"], aggregate_ids=lambda event: (event["aggregate_id"],)
    )
    return [_new_row(envelopes_of_row) for envelopes_of_row in groups]


def _new_row(envelopes: Sequence[Envelope]) -> NewRow:
    first = envelopes[0]
    return NewRow(
        first["event_id"],
        first["type"],
        first["data"].AWAITED,
        sorted({event["aggregate_id"] for event in envelopes}),
        len(envelopes),
        orjson.dumps(envelopes),
        orjson.dumps(first),
    )


def insert(
    rows: Sequence[NewRow], claimant: str | None, on_claimed: Callable[[list[OutboxRow]], None]
) -> Statement:
    """Return the statement that inserts the rows. `on_claimed` gets the rows that the statement has claimed.

    Without a claimant, or on SQLite, it claims nothing.
    """

    def execute(connection: sa.Connection) -> None:
        connection.execute(_insert_unclaimed, [row.for_sqlalchemy() for row in rows])

    def on_result(claimed: Iterable[tuple[int, str]] | None) -> None:
        seqs = {first_event_id: seq for seq, first_event_id in claimed or ()}
        on_claimed([row.inserted(seqs[row.first_event_id]) for row in rows if row.first_event_id in seqs])

    return Statement(_INSERT, _parameters(rows, claimant), execute, _CLAIMED, on_result)


def _parameters(rows: Sequence[NewRow], claimant: str | None) -> tuple[tuple[str, Any], ...]:
    return (
        ("text[]", [row.first_event_id for row in rows]),
        ("text[]", [row.type for row in rows]),
        ("bool[]", [row.awaited for row in rows]),
        ("text[]", [orjson.dumps(row.aggregate_ids).decode() for row in rows]),
        ("text[]", [row.envelopes.decode() for row in rows]),
        ("text", claimant),
    )
