"""Alembic's entry: see nameko_mesh.migrations."""

from nameko_mesh import migrations
from services.orders.tables import metadata

migrations.run(metadata)
