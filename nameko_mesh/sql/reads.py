"""Reads of many rows by key, with statements that are prepared once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa

from nameko_mesh.sql import psycopg_eventlet


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
) -> Sequence[Sequence[Any]]:
    """The rows whose key is one of the values, in its order; each has its values in that of the columns."""
    chosen = sorted(set(values))
    if not chosen:
        return []
    if connection.dialect.name == "postgresql":
        return fetch_prepared(connection, _select(columns, key, lock), ("text[]",), (chosen,))
    query = sa.select(*columns).where(among(connection, key, chosen)).order_by(key)
    return connection.execute(query).fetchall()


@lru_cache
def _select(columns: tuple[sa.Column[Any], ...], key: sa.Column[str], lock: bool) -> str:
    """Row by row, in the order given. Asked for all keys at once PostgreSQL reads a whole index, when the
    table is small as it makes the plan, and goes on to do so as it grows."""
    names = ", ".join(column.name for column in columns)
    return (
        f"SELECT one.* FROM unnest($1) AS wanted(key), LATERAL (SELECT {names} FROM {key.table} "  # noqa: S608 - names of our own tables
        f"WHERE {key.table}.{key.name} = wanted.key LIMIT 1{' FOR UPDATE' if lock else ''}) AS one"
    )


def fetch_prepared(
    connection: sa.Connection, text: str, types: tuple[str, ...], values: tuple[Any, ...]
) -> Sequence[Sequence[Any]]:
    """The rows of a statement of PostgreSQL, which it parses and plans once for each of its connections."""
    names: dict[str, str] = connection.info.setdefault("prepared", {})
    if text not in names:
        name = f"mesh_{len(names)}"
        connection.exec_driver_sql(f"PREPARE {name} ({', '.join(types)}) AS {text}")
        names[text] = name
    places = ", ".join(["%s"] * len(values))
    return psycopg_eventlet.fetch(connection, f"EXECUTE {names[text]} ({places})", values)
