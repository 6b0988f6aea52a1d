"""outbox

Adopts the table of a database in which a service's own revisions have created it.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

from nameko_mesh.sql.migrations import create_or_adopt
from nameko_mesh.sql.tables import BigInt, Texts, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# PostgreSQL may be built without LZ4. Its own method takes several times the CPU.
COMPRESS_BY_LZ4 = """
DO $$ BEGIN ALTER TABLE outbox ALTER COLUMN envelopes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN END $$
"""


def upgrade() -> None:
    is_new = create_or_adopt(
        "outbox",
        sa.Column("seq", BigInt, primary_key=True, autoincrement=True),
        sa.Column("first_event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("awaited", sa.Boolean(), nullable=False),
        sa.Column("aggregate_ids", Texts, nullable=False),
        sa.Column("envelopes", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("claimed_by", sa.String(36)),
        sa.Column("claimed_until", UtcDateTime(timezone=True)),
        sa.Column("sent_at", UtcDateTime(timezone=True)),
    )
    if not is_new:
        return
    unsent = sa.text("sent_at IS NULL")
    op.create_index("outbox_unsent", "outbox", ["seq"], postgresql_where=unsent, sqlite_where=unsent)
    op.create_index("outbox_claimed", "outbox", ["claimed_by"], postgresql_where=unsent, sqlite_where=unsent)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(COMPRESS_BY_LZ4)


def downgrade() -> None:
    op.drop_table("outbox")
