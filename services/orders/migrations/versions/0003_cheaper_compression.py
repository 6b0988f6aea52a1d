"""cheaper compression

Compress events by LZ4 if PostgreSQL was built with it. PostgreSQL's own method takes about a twelfth of the CPU
that PostgreSQL spends on an order.

Revision: 0003, after 0002
"""

from alembic import op

revision = '0003'
down_revision = '0002'
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
