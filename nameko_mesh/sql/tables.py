"""Column types, and the tables `inbox` and `commands`, by which events and commands take effect once.

`SCHEMA` migrates the tables, beside the service's own and with a version table of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from nameko_mesh.sql.schema import Schema


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite keeps no zone, so reading puts the zone back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A key that the database numbers. SQLite numbers rows itself only where the key is an INTEGER."""

Texts = sa.ARRAY(sa.Text()).with_variant(sa.JSON(), "sqlite")

metadata = sa.MetaData()

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("consumer", sa.String(100), primary_key=True),
    sa.Column("event_id", sa.String(36), primary_key=True),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Index("inbox_by_age", "received_at"),
)

commands = sa.Table(
    "commands",
    metadata,
    sa.Column("command_id", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("executed_at", UtcDateTime, nullable=False),
    sa.Index("commands_by_age", "executed_at"),
)

STALE_WRITE_SQLSTATE = "NM001"
"""The SQLSTATE of the function `mesh_stale_write()`, which aborts a statement whose rows have changed. Class
NM belongs to no standard (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

SCHEMA = Schema(metadata, Path(__file__).parent / "revisions", "mesh_sql_version")


def insert_ignoring_conflicts(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that keeps an existing row as it is."""
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


def as_row(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
