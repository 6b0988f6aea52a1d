"""All writes of a transaction in one statement, whose text is the same whatever the number of rows.

    tx.writes.insert(transfers, rows)
    tx.writes.update(accounts, rows, ("balance", "version"), if_still="version")

PostgreSQL gets the rows as one JSON document, which it takes apart in C: one parameter for each value would
cost this process more than the rest of the transaction. The statement is parsed once for each connection.
SQLite runs in this process and has no round trips to save, so it gets the rows one by one.

Gain: to insert and update 16 rows takes a third of the time of SQLAlchemy Core, and a quarter of its CPU time
(`python -m bench.tricks.sql`). Delete it when SQLAlchemy sends rows as arrays or documents itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nameko_mesh.sql.reads import fetch_prepared
from nameko_mesh.sql.tables import STALE_WRITE_SQLSTATE

Row = Mapping[str, Any]
"""Plain values by column. A moment is aware. A JSON column holds JSON values or dataclasses."""


class StaleWrite(Exception):
    """Some rows are not what the writer took them for: read them, and decide anew."""


def _ignore(_: Any) -> None:
    """The result is not needed."""


class Statement(msgspec.Struct, frozen=True):
    """A write of a batch.

    `postgresql` is its text, with `{0}`, `{1}` ... in place of `values`, each of which comes after its type.
    `returning` is an aggregate over the rows that the statement returns, and `on_result` gets its value.
    `execute` does the same elsewhere, and `on_result` gets what it returns.
    The batch raises StaleWrite if fewer than `expected_rows` come back; `execute` raises it itself.
    """

    postgresql: str
    values: tuple[tuple[str, Any], ...]
    execute: Callable[[sa.Connection], Any]
    returning: str = ""
    on_result: Callable[[Any], None] = _ignore
    expected_rows: int | None = None


class WriteBatch:
    """Keeps the writes of a transaction until they are sent. Reads before that do not see them."""

    def __init__(self) -> None:
        self._statements: list[Statement] = []

    def __bool__(self) -> bool:
        return bool(self._statements)

    def add(self, statement: Statement) -> None:
        self._statements.append(statement)

    def insert(
        self,
        table: sa.Table,
        rows: Sequence[Row],
        *,
        unless_there: bool = False,
        due: Mapping[str, timedelta] = MappingProxyType({}),
    ) -> None:
        """Insert all rows or none: an existing row raises IntegrityError, or is kept with `unless_there`.

        The columns of `due` get the database's time plus the given delay.
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

        Each row holds under `expected` the value that the column `if_still` had when the row was read. A row
        in which that value has changed, or which is gone, is skipped; with `all_or_none` it raises
        StaleWrite.
        """
        if rows:
            (key,) = table.primary_key
            rows = sorted(rows, key=itemgetter(key.name))  # a fixed lock order prevents deadlocks
            text = _update(table, key, columns, if_still)
            execute = partial(_update_each, table, rows, columns, if_still, all_or_none)
            expected_rows = len(rows) if all_or_none else None
            self.add(Statement(text, (document(rows),), execute, expected_rows=expected_rows))

    def send(self, connection: sa.Connection) -> None:
        """Send the kept writes. Raises StaleWrite, after which the transaction can't be committed."""
        statements, self._statements = self._statements, []
        if connection.dialect.name == "postgresql":
            results = _send_together(connection, statements)
        else:
            results = [statement.execute(connection) for statement in statements]
        for statement, result in zip(statements, results, strict=True):
            statement.on_result(result)


def _send_together(connection: sa.Connection, statements: Sequence[Statement]) -> Sequence[Any]:
    text = _compose(
        tuple(
            (one.postgresql, len(one.values), one.returning, one.expected_rows is not None)
            for one in statements
        )
    )
    typed = [pair for one in statements for pair in (*one.values, ("int", one.expected_rows or 0))]
    types, values = zip(*typed, strict=True)
    try:
        (results,) = fetch_prepared(connection, text, types, values)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != STALE_WRITE_SQLSTATE:
            raise
        raise StaleWrite from error
    return results


@lru_cache
def _compose(statements: tuple[tuple[str, int, str, bool], ...]) -> str:
    """Return one statement that executes all of them and returns one row, with a result for each.

    PostgreSQL executes the parts in no fixed order. Only an error can abort a statement half way, so a part
    with too few rows calls `mesh_stale_write()`, which raises one (sql/tables.py).
    """
    parts, results, place = [], [], 1
    for number, (text, value_count, aggregate, is_counted) in enumerate(statements, start=1):
        expected_rows = place + value_count
        places = [f"${place_of_value}" for place_of_value in range(place, expected_rows)]
        parts.append(f"write{number} AS ({text.format(*places)})")
        if is_counted:
            result = aggregate or "NULL"
            aggregate = f"CASE WHEN count(*) >= ${expected_rows} THEN {result} ELSE mesh_stale_write() END"
        query = f"(SELECT {aggregate} FROM write{number} AS written)"  # noqa: S608 - statements of our own
        results.append(query if aggregate else "NULL")
        place = expected_rows + 1
    return f"WITH {', '.join(parts)} SELECT {', '.join(results)}"


def document(rows: Sequence[Any]) -> tuple[str, str]:
    """Return the rows as the type and the value of one parameter."""
    return "json", orjson.dumps(rows, default=_as_text).decode()


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a row can't hold a {type(value).__name__}")


@lru_cache
def _insert(
    table: sa.Table, columns: tuple[str, ...], unless_there: bool, due: tuple[tuple[str, timedelta], ...]
) -> str:
    names = ", ".join((*columns, *(name for name, _ in due)))
    moments = [f"clock_timestamp() + interval '{delay.total_seconds()} s'" for _, delay in due]
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
    # SQLite lives in this process, so its clock is that of this machine.
    moments = {name: datetime.now(UTC) + delay for name, delay in due.items()}
    return connection.execute(into, [{**row, **moments} for row in rows])


@lru_cache
def _update(table: sa.Table, key: sa.Column[Any], columns: tuple[str, ...], if_still: str) -> str:
    """Return a statement that looks rows up one by one and changes them by their `ctid`.

    PostgreSQL would join by the key if it knew how many rows there are; while it thinks them few, a join
    scans the whole table.
    """
    name = table.name
    assignments = ", ".join(f"{column} = new.{column}" for column in columns)
    named = {key.name: key, **{column: table.c[column] for column in columns}, "expected": table.c[if_still]}
    types = ", ".join(f"{alias} {column.type.compile(_POSTGRESQL)}" for alias, column in named.items())
    return (
        f"UPDATE {name} SET {assignments} FROM ("  # noqa: S608 - names of our own tables
        f"SELECT given.*, (SELECT ctid FROM {name} WHERE {name}.{key.name} = given.{key.name}) AS place "
        f"FROM json_to_recordset({{0}}) AS given({types}) OFFSET 0) AS new "
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
    condition = (key == sa.bindparam("its_key")) & (table.c[if_still] == sa.bindparam("expected"))
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    parameters = [
        {
            "its_key": row[key.name],
            "expected": row["expected"],
            **{f"new_{name}": row[name] for name in columns},
        }
        for row in rows
    ]
    changed = connection.execute(table.update().where(condition).values(values), parameters).rowcount
    if all_or_none and changed < len(rows):
        raise StaleWrite
