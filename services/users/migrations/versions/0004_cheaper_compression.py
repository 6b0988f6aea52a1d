"""cheaper compression

Events are compressed by LZ4 where PostgreSQL has it (it is a choice of whoever built it): its own method
takes about a twelfth of all that an order costs it.

Revision: 0004, after 0003
"""

from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    _compress_by('lz4')


def downgrade() -> None:
    _compress_by('pglz')


def _compress_by(method: str) -> None:
    if op.get_bind().dialect.name == 'postgresql':
        op.execute(
            f'DO $$ BEGIN ALTER TABLE outbox ALTER COLUMN envelopes SET COMPRESSION {method}; '
            'EXCEPTION WHEN feature_not_supported THEN END $$'
        )
