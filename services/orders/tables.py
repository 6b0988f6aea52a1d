"""The tables of orders. Changed by migrations alone (migrations/versions)."""

import sqlalchemy as sa

from nameko_mesh import outbox, sql
from nameko_mesh.sql import UtcDateTime

metadata = sa.MetaData()

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("user_name", sa.String(200), nullable=False),
    sa.Column("user_email", sa.String(254), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("lines", sa.JSON, nullable=False),
    sa.Column("currency", sa.String(3)),
    sa.Column("reason", sa.JSON),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("confirmed_at", UtcDateTime),
    # For a pending order: the attempts to settle it, and the end of its lease.
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime),
    sa.Index("orders_of_user", "user_id", "created_at", "id"),
)
pending = orders.c.status == "pending"
sa.Index("orders_due", orders.c.due_at, postgresql_where=pending, sqlite_where=pending)

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

SCHEMAS = (sql.service_schema(__file__, metadata), sql.SCHEMA, outbox.SCHEMA)
