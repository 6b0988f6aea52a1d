"""The tables of users. Changed by migrations alone (migrations/versions)."""

import sqlalchemy as sa

from nameko_mesh.sql import tables as mesh_tables
from nameko_mesh.sql.tables import UtcDateTime

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

mesh_tables.install(metadata, mesh_tables.outbox, mesh_tables.commands)
