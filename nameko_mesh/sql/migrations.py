"""Migrates the schemas of a database by Alembic. The `env.py` of a schema only calls `run`.

    upgrade(url, SCHEMAS)       a service's own schema first, then those of the mesh

`sql.schema_version` refuses to start a service on a database that is not migrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config
from alembic.util import CommandError

from nameko_mesh.sql.postgresql import resolve_url
from nameko_mesh.sql.schema import Schema


def run() -> None:
    """Apply or compare migrations, on the connection that `upgrade` or `check` opened. For an `env.py`."""
    schema: Schema = context.config.attributes["schema"]
    foreign: frozenset[str] = context.config.attributes["foreign_tables"]
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=schema.metadata,
        version_table=schema.version_table,
        include_name=lambda name, kind, _: kind != "table" or name not in foreign,
        compare_type=True,
        render_as_batch=True,  # SQLite alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


def create_or_adopt(name: str, *columns: sa.Column[Any]) -> bool:
    """Create a table of the mesh, or adopt the table that older code has created. Return True if the table is
    new.

    Raises CommandError when the database has another table of this name.
    """
    inspector = sa.inspect(op.get_bind())
    if name not in inspector.get_table_names():
        op.create_table(name, *columns)
        return True
    existing = {column["name"] for column in inspector.get_columns(name)}
    if missing := [column.name for column in columns if column.name not in existing]:
        raise CommandError(
            f"the database has a table {name} that is not the mesh's: it lacks {', '.join(missing)}. "
            "Rename that table, because the mesh needs the name"
        )
    return False


def upgrade(url: str, schemas: Sequence[Schema], to: str = "head") -> None:
    """Bring a database to the newest version, or the first of the schemas to the version `to`.

    A service's own schema comes first: its old revisions may have created tables that a schema of the mesh
    adopts.
    """

    def upgrade_each(connection: sa.Connection) -> None:
        for schema in schemas if to == "head" else schemas[:1]:
            command.upgrade(_config(schema, schemas, connection), to)

    _with_connection(url, upgrade_each)


def check(url: str, schemas: Sequence[Schema]) -> None:
    """Raise alembic.util.CommandError when the tables in the code differ from the migrated ones."""

    def check_each(connection: sa.Connection) -> None:
        for schema in schemas:
            command.check(_config(schema, schemas, connection))

    _with_connection(url, check_each)


def new(url: str, schemas: Sequence[Schema], message: str) -> None:
    """Write the next numbered revision of the first schema, from the difference of code and database."""
    schema = schemas[0]
    number = f"{int(schema.head or 0) + 1:04d}"

    def write(connection: sa.Connection) -> None:
        command.revision(_config(schema, schemas, connection), message, autogenerate=True, rev_id=number)

    _with_connection(url, write)


def _config(schema: Schema, schemas: Sequence[Schema], connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(schema.revisions).replace("%", "%%"))
    others = (other.table_names for other in schemas if other is not schema)
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    config.attributes["foreign_tables"] = frozenset().union(*others)
    return config


def _with_connection(url: str, act: Callable[[sa.Connection], object]) -> None:
    address = resolve_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            act(connection)
    finally:
        engine.dispose()
