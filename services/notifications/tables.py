"""The tables of notifications. Changed by migrations alone (migrations/versions)."""

import sqlalchemy as sa

from nameko_mesh import sql
from nameko_mesh.sql import UtcDateTime

metadata = sa.MetaData()

mails = sa.Table(
    "mails",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("recipient", sa.String(254), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("sent_at", UtcDateTime),
    sa.Index("mails_by_age", "sent_at"),
)
unsent = mails.c.sent_at.is_(None)
sa.Index("mails_due", mails.c.due_at, postgresql_where=unsent, sqlite_where=unsent)

SCHEMAS = (sql.service_schema(__file__, metadata), sql.SCHEMA)
