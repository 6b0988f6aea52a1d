"""Whether a service finds the tables that its code was written for."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from nameko.exceptions import ConfigurationError
from sqlalchemy import exc

from nameko_mesh.sql.engine import reading


class NotMigrated(ConfigurationError):
    """The database is older, or newer, than the code: the service must not start on it."""


def check_migrated(engine: sa.Engine, migrations: Path) -> None:
    """Raises NotMigrated, which says what to do. A database that does not answer is let pass: the
    service waits for it, as it does later on. So is a service without migrations."""
    known = sorted(path.stem.partition("_")[0] for path in migrations.glob("versions/[0-9]*.py"))
    if not known:
        return
    try:
        with reading(engine) as connection:
            there = sa.inspect(connection).has_table("alembic_version")
            version = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if there else None
    except (exc.OperationalError, exc.TimeoutError):
        return
    if version != known[-1]:
        raise NotMigrated(
            f"the database {engine.url.database} is at version {version}, the code needs {known[-1]}: "
            "run `mycelium migrate`"
        )
