"""Describes the tables that are migrated together, of a service or of a package of nameko_mesh.

    SCHEMAS = (service_schema(__file__, metadata), sql.SCHEMA, outbox.SCHEMA)

A database may hold several schemas. Each schema has its own version table, and its migrations change no table
of another schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables and the folder of their revisions: Alembic's `env.py` and `versions/0001_name.py`."""

    metadata: sa.MetaData
    revisions: Path
    version_table: str = "alembic_version"

    @property
    def head(self) -> str | None:
        """The newest revision, or None if there are no revisions."""
        revisions = self.revisions.glob("versions/[0-9][0-9][0-9][0-9]_*.py")
        numbers = (path.stem.partition("_")[0] for path in revisions)
        return max(numbers, default=None)

    @property
    def table_names(self) -> frozenset[str]:
        return frozenset({*self.metadata.tables, self.version_table})


def service_schema(module_file: str, metadata: sa.MetaData) -> Schema:
    """Return the schema of a service, whose `migrations` folder lies beside the module."""
    return Schema(metadata, Path(module_file).parent / "migrations")
