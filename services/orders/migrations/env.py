"""Alembic's entry: see mesh.migrations."""

from mesh import migrations
from services.orders.tables import metadata

migrations.run(metadata)
