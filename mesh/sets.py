"""Many rows in one statement, and all writes of a transaction in one, whose text is the same whatever
their number: parsed once, sent once.

On PostgreSQL the rows travel as one JSON document, which the server takes apart in C; one parameter
for each value would cost this process more than all the rest of the transaction. SQLite, which lives
in this process, has no round trips to save and is given row after row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

Row = Mapping[str, Any]
"""Plain values by column. A moment is aware; what a JSON column holds is as JSON has it."""


def among(connection: sa.Connection, column: sa.ColumnElement[Any], values: Iterable[Any]) -> Any:
    """Whether the column is one of the values."""
    chosen = sorted(set(values))
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.literal(chosen, sa.ARRAY(column.type)))
    each = sa.func.json_each(orjson.dumps(chosen).decode()).table_valued("value")
    return column.in_(sa.select(each.c.value))


def select_among(
    connection: sa.Connection,
    columns: tuple[sa.Column[Any], ...],
    key: sa.Column[str],
    values: Iterable[str],
    *,
    lock: bool = False,
) -> Sequence[sa.Row[Any]]:
    """The rows whose key is one of the values, in its order."""
    chosen = sorted(set(values))
    if not chosen:
        return []
    if connection.dialect.name == "postgresql":
        return _execute_prepared(connection, _select(columns, key, lock), ("text[]",), (chosen,)).fetchall()
    query = sa.select(*columns).where(among(connection, key, chosen)).order_by(key)
    return connection.execute(query).fetchall()


@lru_cache
def _select(columns: tuple[sa.Column[Any], ...], key: sa.Column[str], lock: bool) -> str:
    names = ", ".join(column.name for column in columns)
    return (
        f"SELECT {names} FROM {key.table} WHERE {key.name} = ANY($1) "  # noqa: S608 - names of our own tables
        f"ORDER BY {key.name}" + (" FOR UPDATE" if lock else "")
    )


def _execute_prepared(
    connection: sa.Connection, text: str, types: tuple[str, ...], values: tuple[Any, ...]
) -> sa.CursorResult[Any]:
    """PostgreSQL parses and plans the statement once for each of its connections."""
    names: dict[str, str] = connection.info.setdefault("prepared", {})
    if text not in names:
        name = f"mesh_{len(names)}"
        connection.exec_driver_sql(f"PREPARE {name} ({', '.join(types)}) AS {text}")
        names[text] = name
    places = ", ".join(["%s"] * len(values))
    return connection.exec_driver_sql(f"EXECUTE {names[text]} ({places})", values)


@dataclass(frozen=True, slots=True)
class Write:
    """`postgresql` is a statement with `{rows}` where the document goes; elsewhere `execute` does it."""

    postgresql: str
    rows: Sequence[Row]
    execute: Callable[[sa.Connection], Any]


class Writes:
    """The writes of one transaction, kept until its end: no read in between sees them."""

    def __init__(self) -> None:
        self._kept: list[Write] = []

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, write: Write) -> None:
        if write.rows:
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
            self.add(Write(text, rows, partial(_insert_each, table, rows, unless_there, due)))

    def update(self, table: sa.Table, rows: Sequence[Row], columns: tuple[str, ...]) -> None:
        """Set these columns of the rows, which are found by the table's primary key of one column."""
        if rows:
            (key,) = table.primary_key
            text = _update(table, key.name, columns)
            self.add(Write(text, rows, partial(_update_each, table, rows, columns)))

    def send(self, connection: sa.Connection) -> Any:
        """Returns the result of the last of them."""
        kept, self._kept = self._kept, []
        if connection.dialect.name == "postgresql":
            text = _together(tuple(one.postgresql for one in kept))
            documents = tuple(_document(one.rows) for one in kept)
            return _execute_prepared(connection, text, ("json",) * len(kept), documents)
        return [one.execute(connection) for one in kept][-1]


@lru_cache
def _together(statements: tuple[str, ...]) -> str:
    """PostgreSQL executes all statements of a WITH, in no certain order, and tells the result of the last."""
    texts = [text.replace("{rows}", f"${number}") for number, text in enumerate(statements, start=1)]
    *first, last = texts
    clauses = ", ".join(f"write{number} AS ({text})" for number, text in enumerate(first))
    return f"WITH {clauses} {last}" if first else last


def _document(rows: Sequence[Row]) -> str:
    return orjson.dumps(rows, default=_as_text).decode()


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
        f"SELECT {', '.join((*columns, *moments))} FROM json_populate_recordset(NULL::{table.name}, {{rows}})"
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
def _update(table: sa.Table, key: str, columns: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = new.{name}" for name in columns)
    return (
        f"UPDATE {table.name} SET {assignments} "  # noqa: S608 - names of our own tables
        f"FROM json_populate_recordset(NULL::{table.name}, {{rows}}) AS new "
        f"WHERE {table.name}.{key} = new.{key}"
    )


def _update_each(
    table: sa.Table, rows: Sequence[Row], columns: tuple[str, ...], connection: sa.Connection
) -> Any:
    (key,) = table.primary_key
    update = table.update().where(key == sa.bindparam("its_key"))
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    parameters = [
        {"its_key": row[key.name], **{f"new_{name}": row[name] for name in columns}} for row in rows
    ]
    return connection.execute(update.values(values), parameters)
