"""Sends all writes of a transaction in one statement. Its text does not depend on the number of rows.

    tx.writes.insert(transfers, rows)
    tx.writes.update(accounts, rows, ("balance", "version"), if_still="version")

PostgreSQL gets the rows of a write as one JSON document, and parses it in C. A parameter for each value would
cost this process more than the rest of the transaction. The statement is parsed once for each connection.
SQLite runs in this process, so round trips cost nothing there, and each write is a statement of its own.

Gain: inserting and updating 16 rows takes a third of the time of SQLAlchemy Core, and a quarter of its CPU
time (`python -m bench.tricks.sql`). Delete it when SQLAlchemy sends rows as arrays or documents itself.
`_compose` has an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nameko_mesh.sql.reads import fetch_prepared
from nameko_mesh.sql.statement import Row, StaleWrite, Statement
from nameko_mesh.sql.tables import STALE_WRITE_SQLSTATE


class WriteBatch:
    """Keeps the writes of a transaction until `send`. Earlier reads do not see the kept writes."""

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
        """Insert the rows. An existing row raises IntegrityError; with `unless_there` it is kept.

        `due` maps more columns to delays. Such a column gets the database's time plus the delay.
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
        """Set `columns` of rows that have not changed. The table's primary key is one column.

        Each row holds under `expected` the value that the column `if_still` had when the row was read. When
        that value has changed, or the row is deleted, StaleWrite is raised. Without `all_or_none` the row is
        skipped.
        """
        if rows:
            (key,) = table.primary_key
            rows = sorted(rows, key=itemgetter(key.name))  # a fixed lock order prevents deadlocks
            text = _update(table, key, columns, if_still)
            execute = partial(_update_each, table, rows, columns, if_still, all_or_none)
            expected_rows = len(rows) if all_or_none else None
            self.add(Statement(text, (document(rows),), execute, expected_rows=expected_rows))

    def send(self, connection: sa.Connection) -> None:
        """Send the kept writes. After a StaleWrite the transaction can't be committed."""
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
            (
                statement.postgresql,
                len(statement.values),
                statement.returning,
                statement.expected_rows is not None,
            )
            for statement in statements
        )
    )
    typed = [
        pair
        for statement in statements
        for pair in (*statement.values, ("int", statement.expected_rows or 0))
    ]
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
    """Return a statement that executes all the statements and returns one row, with a result for each.

    PostgreSQL executes the parts in no fixed order. Only an error can abort a statement half way. So a part
    with too few rows calls `mesh_stale_write()`, which raises an error (sql/tables.py).

    Example, for an insert and a counted update:

        WITH write1 AS (INSERT INTO a ... $1), write2 AS (UPDATE b ... $3 RETURNING 1)
        SELECT NULL,
               (SELECT CASE WHEN count(*) >= $4 THEN NULL ELSE mesh_stale_write() END FROM write2 AS written)
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
    # SQLite runs in this process, so it has the clock of this machine.
    moments = {name: datetime.now(UTC) + delay for name, delay in due.items()}
    return connection.execute(into, [{**row, **moments} for row in rows])


@lru_cache
def _update(table: sa.Table, key: sa.Column[Any], columns: tuple[str, ...], if_still: str) -> str:
    """Return a statement that looks rows up one by one and changes them by their `ctid`, their place on disk.

    A join by the key would scan the whole table, as long as PostgreSQL estimates that the table is small.
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
    condition = (key == sa.bindparam("key_value")) & (table.c[if_still] == sa.bindparam("expected"))
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    parameters = [
        {
            "key_value": row[key.name],
            "expected": row["expected"],
            **{f"new_{name}": row[name] for name in columns},
        }
        for row in rows
    ]
    changed = connection.execute(table.update().where(condition).values(values), parameters).rowcount
    if all_or_none and changed < len(rows):
        raise StaleWrite
