"""The tables of users. Changed by migrations alone (migrations/versions)."""

import sqlalchemy as sa

from nameko_mesh import outbox, sql
from nameko_mesh.sql import UtcDateTime

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(254), nullable=False, unique=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("password_hash", sa.String(200), nullable=False),
)

SCHEMAS = (sql.service_schema(__file__, metadata), sql.SCHEMA, outbox.SCHEMA)
