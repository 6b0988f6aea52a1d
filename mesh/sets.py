"""Many rows in one statement, whose text is the same whatever their number: parsed once, sent once.

On PostgreSQL the rows travel as one JSON document, which the server takes apart in C; one parameter
for each value would cost this process more than all the rest of the transaction. SQLite, which lives
in this process, has no round trips to save and is given row after row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa

Row = Mapping[str, Any]
"""Plain values by column. A moment is aware; what a JSON column holds is as JSON has it."""


def among(connection: sa.Connection, column: sa.ColumnElement[str], values: Iterable[str]) -> Any:
    """Whether the column is one of the values."""
    chosen = sorted(set(values))
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.literal(chosen, sa.ARRAY(sa.String)))
    each = sa.func.json_each(orjson.dumps(chosen).decode()).table_valued("value")
    return column.in_(sa.select(each.c.value))


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """All of them or none, numbered in their order. Raises IntegrityError when one is there already."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_insert(table, tuple(rows[0])), {"rows": _document(rows)})
    else:
        connection.execute(table.insert(), rows)


def update_rows(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Row], columns: tuple[str, ...]
) -> None:
    """Set these columns of the rows, which are found by the table's primary key of one column."""
    if not rows:
        return
    (key,) = table.primary_key
    if connection.dialect.name == "postgresql":
        connection.execute(_update(table, key.name, columns), {"rows": _document(rows)})
        return
    update = table.update().where(key == sa.bindparam("its_key"))
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    parameters = [
        {"its_key": row[key.name], **{f"new_{name}": row[name] for name in columns}} for row in rows
    ]
    connection.execute(update.values(values), parameters)


def _document(rows: Sequence[Row]) -> str:
    return orjson.dumps(rows, default=_as_text).decode()


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is nothing that a row may hold")


@lru_cache
def _insert(table: sa.Table, columns: tuple[str, ...]) -> sa.TextClause:
    names = ", ".join(columns)
    return sa.text(
        f"INSERT INTO {table.name} ({names}) "  # noqa: S608 - names of our own tables
        f"SELECT {names} FROM json_populate_recordset(NULL::{table.name}, :rows)"
    )


@lru_cache
def _update(table: sa.Table, key: str, columns: tuple[str, ...]) -> sa.TextClause:
    assignments = ", ".join(f"{name} = new.{name}" for name in columns)
    return sa.text(
        f"UPDATE {table.name} SET {assignments} "  # noqa: S608 - names of our own tables
        f"FROM json_populate_recordset(NULL::{table.name}, :rows) AS new WHERE {table.name}.{key} = new.{key}"
    )
