"""Tables that are migrated together: a service's own, or those of one part of the mesh.

    SCHEMAS = (service_schema(__file__, metadata), sql.SCHEMA, outbox.SCHEMA)

A database may hold several schemas. Each has a version table of its own, and its migrations leave the tables
of the others alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Schema:
    """`revisions` is a folder with Alembic's `env.py` and `versions/`; files there begin with
    a number of four digits."""

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


def service_schema(tables_file: str, metadata: sa.MetaData) -> Schema:
    """Return the schema of a service whose `migrations` folder lies beside its `tables.py`."""
    return Schema(metadata, Path(tables_file).parent / "migrations")
