"""The outbox table. A row holds the envelopes of one type that one transaction has published."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from nameko_mesh.sql.schema import Schema
from nameko_mesh.sql.tables import BigInt, Texts, UtcDateTime

metadata = sa.MetaData()

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

SCHEMA = Schema(metadata, Path(__file__).parent / "revisions", "mesh_outbox_version")
