"""Alembic for a service: its `migrations/env.py` is the one line that calls `run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config

from nameko_mesh.sql.postgresql import address_of


def run(metadata: sa.MetaData) -> None:
    """What an `env.py` does: apply or compare, on the connection that `upgrade` or `check` opened."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=True,  # SQLite alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


def _config(migrations: Path, connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(url: str, migrations: Path, to: str = "head") -> None:
    """Bring a database to the newest version; a database that is there already changes nothing."""
    _with_connection(url, lambda connection: command.upgrade(_config(migrations, connection), to))


def check(url: str, migrations: Path) -> None:
    """Raises alembic.util.CommandError when the tables in the code differ from the migrated ones."""
    _with_connection(url, lambda connection: command.check(_config(migrations, connection)))


def new(url: str, migrations: Path, message: str) -> None:
    """Write the next migration, numbered, from what the code has and the database lacks."""
    number = f"{len(list(migrations.glob('versions/[0-9]*.py'))) + 1:04d}"
    _with_connection(
        url,
        lambda connection: command.revision(
            _config(migrations, connection), message, autogenerate=True, rev_id=number
        ),
    )


def _with_connection(url: str, act: Callable[[sa.Connection], object]) -> None:
    address = address_of(url)
    if address.get_backend_name() == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            act(connection)
    finally:
        engine.dispose()
