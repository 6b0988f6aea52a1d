"""inbox and commands

Adopts the tables of a database in which a service's own revisions have created them.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

from nameko_mesh.sql.migrations import create_or_adopt
from nameko_mesh.sql.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STALE_WRITE = """
CREATE OR REPLACE FUNCTION mesh_stale_write() RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row is not what its writer took it for' USING ERRCODE = 'NM001';
END $$
"""


def upgrade() -> None:
    if create_or_adopt(
        "inbox",
        sa.Column("consumer", sa.String(100), primary_key=True),
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("received_at", UtcDateTime(timezone=True), nullable=False),
    ):
        op.create_index("inbox_by_age", "inbox", ["received_at"])
    if create_or_adopt(
        "commands",
        sa.Column("command_id", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("executed_at", UtcDateTime(timezone=True), nullable=False),
    ):
        op.create_index("commands_by_age", "commands", ["executed_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(STALE_WRITE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION mesh_stale_write()")
    op.drop_table("commands")
    op.drop_table("inbox")
