"""Alembic's entry: see mesh.migrations."""

from mesh import migrations
from services.users.tables import metadata

migrations.run(metadata)
