"""Alembic's entry: see nameko_mesh.sql.migrations."""

from nameko_mesh.sql import migrations

migrations.run()
