"""Checks that a database has the tables that the code was written for."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from nameko.exceptions import ConfigurationError
from sqlalchemy import exc

from nameko_mesh.sql.engine import reading
from nameko_mesh.sql.schema import Schema

_MIGRATE = "run `mycelium migrate`, or nameko_mesh.sql.migrations.upgrade"
_START_NEWER_CODE = "newer code has migrated the database, so start that code"


class NotMigrated(ConfigurationError):
    """The database is older or newer than the code, so the service must not start."""


def check_migrated(engine: sa.Engine, schemas: Iterable[Schema]) -> None:
    """Compare the version table of each schema with the newest revision in the code.

    Raises NotMigrated. A database that does not answer passes, because the service waits for it later. A
    schema without revisions passes too.
    """
    try:
        with reading(engine) as connection:
            for schema in schemas:
                _check(connection, schema)
    except (exc.OperationalError, exc.TimeoutError):
        return


def _check(connection: sa.Connection, schema: Schema) -> None:
    if schema.head is None:
        return
    exists = sa.inspect(connection).has_table(schema.version_table)
    query = sa.select(sa.column("version_num", sa.String)).select_from(sa.table(schema.version_table))
    version = connection.scalar(query) if exists else None
    if version != schema.head:
        what_to_do = _MIGRATE if version is None or version < schema.head else _START_NEWER_CODE
        raise NotMigrated(
            f"the database {connection.engine.url.database} is at version {version} in "
            f"{schema.version_table}, the code needs {schema.head}: {what_to_do}"
        )
