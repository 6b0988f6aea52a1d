"""Alembic's entry: see mesh.migrations."""

from mesh import migrations
from services.notifications.tables import metadata

migrations.run(metadata)
