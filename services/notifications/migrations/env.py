"""Alembic's entry: see nameko_mesh.sql.migrations."""

from nameko_mesh.sql import migrations
from services.notifications.tables import metadata

migrations.run(metadata)
