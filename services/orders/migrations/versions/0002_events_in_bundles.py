"""events in bundles

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

import nameko_mesh.sql.tables

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.alter_column('event_id', new_column_name='first_event_id')
        batch_op.add_column(sa.Column('aggregate_ids', nameko_mesh.sql.tables.Texts, nullable=True))
        batch_op.add_column(sa.Column('envelopes', sa.JSON(), nullable=True))

    bundles_of_one = {
        'postgresql': 'aggregate_ids = ARRAY[aggregate_id], envelopes = json_build_array(envelope)',
        'sqlite': 'aggregate_ids = json_array(aggregate_id), envelopes = json_array(json(envelope))',
    }
    op.execute(f'UPDATE outbox SET {bundles_of_one[op.get_bind().dialect.name]}')
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.alter_column('aggregate_ids', existing_type=nameko_mesh.sql.tables.Texts, nullable=False)
        batch_op.alter_column('envelopes', existing_type=sa.JSON(), nullable=False)
        batch_op.drop_column('aggregate_id')
        batch_op.drop_column('envelope')


def downgrade() -> None:
    if op.get_bind().scalar(sa.text('SELECT count(*) FROM outbox WHERE sent_at IS NULL')):
        raise RuntimeError('the older relay cannot read the unsent events: wait until all events are sent')
    op.execute('DELETE FROM outbox')
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.add_column(sa.Column('envelope', sa.JSON(), nullable=False))
        batch_op.add_column(sa.Column('aggregate_id', sa.String(length=100), nullable=False))
        batch_op.drop_column('envelopes')
        batch_op.drop_column('aggregate_ids')
        batch_op.alter_column('first_event_id', new_column_name='event_id')
