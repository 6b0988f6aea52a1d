"""Alembic's entry: see mesh.migrations."""

from mesh import migrations
from services.products.tables import metadata

migrations.run(metadata)
