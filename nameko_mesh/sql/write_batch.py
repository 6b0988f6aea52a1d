"""Many rows in one statement, and all writes of a transaction in one, whose text is the same whatever
their number: parsed once, sent once.

On PostgreSQL the rows travel as one JSON document, which the server takes apart in C; one parameter
for each value would cost this process more than all the rest of the transaction. SQLite, which lives
in this process, has no round trips to save and is given row after row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nameko_mesh.sql.reads import fetch_prepared
from nameko_mesh.values import value

Row = Mapping[str, Any]
"""Plain values by column. A moment is aware; what a JSON column holds is as JSON has it, or dataclasses."""


class StaleWrite(Exception):
    """Some rows are not what whoever wrote them took them for: read them, and decide anew."""


def _pass(_: Any) -> None:
    """What is told is of no interest."""


@value
class Statement:
    """`postgresql` is a statement with `{0}`, `{1}` where the values go, each after its type; elsewhere
    `execute` does it.

    `told` is an aggregate over what the statement returns; `on_result` gets it, or what `execute` returned.
    It is StaleWrite to return less than `expected_rows` so many rows; `execute` raises that itself.
    """

    postgresql: str
    values: tuple[tuple[str, Any], ...]
    execute: Callable[[sa.Connection], Any]
    told: str = ""
    on_result: Callable[[Any], None] = _pass
    expected_rows: int | None = None


class WriteBatch:
    """The writes of one transaction, kept until its end: no read in between sees them."""

    def __init__(self) -> None:
        self._kept: list[Statement] = []

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, write: Statement) -> None:
        self._kept.append(write)

    def insert(
        self,
        table: sa.Table,
        rows: Sequence[Row],
        *,
        unless_there: bool = False,
        due: Mapping[str, timedelta] = MappingProxyType({}),
    ) -> None:
        """All of them or none, IntegrityError when one is there already; `unless_there` leaves that alone.

        `due` are columns that get a moment so long after now, by the clock of the database.
        """
        if rows:
            text = _insert(table, tuple(rows[0]), unless_there, tuple(due.items()))
            execute = partial(_insert_each, table, rows, unless_there, due)
            self.add(Statement(text, (document(rows),), execute))

    def update(
        self,
        table: sa.Table,
        rows: Sequence[Row],
        columns: tuple[str, ...],
        *,
        if_still: str,
        all_or_none: bool = True,
    ) -> None:
        """Set these columns of the rows, which are found by the table's primary key of one column.

        `if_still` is a column of which each row has under `expected` what it was when the row was read.
        A row of which it is something else by now, or that is gone, is left alone, and with `all_or_none`
        sending them raises StaleWrite.
        """
        if rows:
            (key,) = table.primary_key
            rows = sorted(rows, key=itemgetter(key.name))  # in one order, so that no two wait for each other
            text = _update(table, key, columns, if_still)
            execute = partial(_update_each, table, rows, columns, if_still, all_or_none)
            expected_rows = len(rows) if all_or_none else None
            self.add(Statement(text, (document(rows),), execute, expected_rows=expected_rows))

    def send(self, connection: sa.Connection) -> None:
        """Raises StaleWrite, after which the transaction can't be committed."""
        kept, self._kept = self._kept, []
        if connection.dialect.name == "postgresql":
            told = _send_together(connection, kept)
        else:
            told = [one.execute(connection) for one in kept]
        for one, answer in zip(kept, told, strict=True):
            one.on_result(answer)


def _send_together(connection: sa.Connection, writes: Sequence[Statement]) -> Sequence[Any]:
    text = _together(
        tuple((one.postgresql, len(one.values), one.told, one.expected_rows is not None) for one in writes)
    )
    typed = [pair for one in writes for pair in (*one.values, ("int", one.expected_rows or 0))]
    types, values = zip(*typed, strict=True)
    try:
        (told,) = fetch_prepared(connection, text, types, values)
    except sa.exc.DataError as error:
        if getattr(error.orig, "pgcode", None) != _DIVISION_BY_ZERO:
            raise
        raise StaleWrite from error
    return told


_DIVISION_BY_ZERO = "22012"


@lru_cache
def _together(writes: tuple[tuple[str, int, str, bool], ...]) -> str:
    """One row with what each of them tells. PostgreSQL executes them in no certain order.

    It knows no way to give up in the middle of a statement, but for an error: hence the division.
    """
    clauses, told, place = [], [], 1
    for number, (text, values, aggregate, is_counted) in enumerate(writes, start=1):
        expected_rows = place + values
        places = [f"${one}" for one in range(place, expected_rows)]
        clauses.append(f"write{number} AS ({text.format(*places)})")
        if is_counted:
            aggregate = (
                f"CASE WHEN 1 / (count(*) >= ${expected_rows})::int = 1 THEN {aggregate or 'NULL'} END"
            )
        answer = f"(SELECT {aggregate} FROM write{number} AS written)"  # noqa: S608 - statements of our own
        told.append(answer if aggregate else "NULL")
        place = expected_rows + 1
    return f"WITH {', '.join(clauses)} SELECT {', '.join(told)}"


def document(rows: Sequence[Any]) -> tuple[str, str]:
    """Rows as the value of one place in a statement."""
    return "json", orjson.dumps(rows, default=_as_text).decode()


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is nothing that a row may hold")


@lru_cache
def _insert(
    table: sa.Table, columns: tuple[str, ...], unless_there: bool, due: tuple[tuple[str, timedelta], ...]
) -> str:
    names = ", ".join((*columns, *(name for name, _ in due)))
    moments = [f"clock_timestamp() + interval '{after.total_seconds()} s'" for _, after in due]
    return (
        f"INSERT INTO {table.name} ({names}) "  # noqa: S608 - names of our own tables
        f"SELECT {', '.join((*columns, *moments))} FROM json_populate_recordset(NULL::{table.name}, {{0}})"
        + (" ON CONFLICT DO NOTHING" if unless_there else "")
    )


def _insert_each(
    table: sa.Table,
    rows: Sequence[Row],
    unless_there: bool,
    due: Mapping[str, timedelta],
    connection: sa.Connection,
) -> Any:
    into: Any = sqlite.insert(table).on_conflict_do_nothing() if unless_there else table.insert()
    # SQLite's clock is that of this machine: it lives in this process.
    moments = {name: datetime.now(UTC) + after for name, after in due.items()}
    return connection.execute(into, [{**row, **moments} for row in rows])


@lru_cache
def _update(table: sa.Table, key: sa.Column[Any], columns: tuple[str, ...], if_still: str) -> str:
    """The rows are looked up one by one and changed where they lie. Joined by their key they would be found
    just so, if PostgreSQL knew how many there are; while it thinks them few it reads the whole table."""
    name = table.name
    assignments = ", ".join(f"{column} = new.{column}" for column in columns)
    named = {key.name: key, **{column: table.c[column] for column in columns}, "expected": table.c[if_still]}
    types = ", ".join(f"{as_} {column.type.compile(_POSTGRESQL)}" for as_, column in named.items())
    return (
        f"UPDATE {name} SET {assignments} FROM ("  # noqa: S608 - names of our own tables
        f"SELECT one.*, (SELECT ctid FROM {name} WHERE {name}.{key.name} = one.{key.name}) AS place "
        f"FROM json_to_recordset({{0}}) AS one({types}) OFFSET 0) AS new "
        f"WHERE {name}.ctid = new.place AND {name}.{if_still} = new.expected RETURNING 1"
    )


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]


def _update_each(
    table: sa.Table,
    rows: Sequence[Row],
    columns: tuple[str, ...],
    if_still: str,
    all_or_none: bool,
    connection: sa.Connection,
) -> None:
    (key,) = table.primary_key
    which = (key == sa.bindparam("its_key")) & (table.c[if_still] == sa.bindparam("expected"))
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    parameters = [
        {
            "its_key": row[key.name],
            "expected": row["expected"],
            **{f"new_{name}": row[name] for name in columns},
        }
        for row in rows
    ]
    changed = connection.execute(table.update().where(which).values(values), parameters).rowcount
    if all_or_none and changed < len(rows):
        raise StaleWrite
