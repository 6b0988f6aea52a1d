"""The tables that every service keeps beside its own: outbox, inbox and command log.

`install` puts them into a service's metadata, where Alembic finds them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite keeps no zone, so there the zone is put back on reading."""

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
"""SQLite gives row ids of its own to INTEGER keys alone."""

Texts = sa.ARRAY(sa.Text()).with_variant(sa.JSON(), "sqlite")

metadata = sa.MetaData()

# A row is a bundle: the events of one type that one transaction has caused.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", BigInt, primary_key=True, autoincrement=True),
    sa.Column("first_event_id", sa.String(36), nullable=False, unique=True),
    sa.Column("type", sa.String(100), nullable=False),
    sa.Column("awaited", sa.Boolean, nullable=False),
    sa.Column("aggregate_ids", Texts, nullable=False),
    sa.Column("envelopes", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("claimed_by", sa.String(36)),
    sa.Column("claimed_until", UtcDateTime),
    sa.Column("sent_at", UtcDateTime),
)
unsent = outbox.c.sent_at.is_(None)
sa.Index("outbox_unsent", outbox.c.seq, postgresql_where=unsent, sqlite_where=unsent)
sa.Index("outbox_claimed", outbox.c.claimed_by, postgresql_where=unsent, sqlite_where=unsent)

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


def install(service_metadata: sa.MetaData, *tables: sa.Table) -> None:
    """Copy the tables into the metadata of a service, indexes and all."""
    for table in tables:
        table.to_metadata(service_metadata)


def as_row(value: Any) -> dict[str, Any]:
    """A dataclass as a row: its fields by name."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
