"""unsent events by claimant

Before it claims an event, the insert looks for unsent rows that other relays have claimed. The index spares it
the rows that its own relay has claimed.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    unsent = sa.text('sent_at IS NULL')
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.create_index(
            'outbox_claimed', ['claimed_by'], unique=False, postgresql_where=unsent, sqlite_where=unsent
        )


def downgrade() -> None:
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.drop_index('outbox_claimed')
