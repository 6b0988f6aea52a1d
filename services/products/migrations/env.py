"""Alembic's entry: see nameko_mesh.sql.migrations."""

from nameko_mesh.sql import migrations
from services.products.tables import metadata

migrations.run(metadata)
