"""`mycelium migrate`, `seed` and `new-migration`: prepare the services' databases."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from mycelium.cli.output import exit_on_database_error, fail

RequiredDatabaseUrl = Annotated[
    str, typer.Argument(envvar="DATABASE_URL", help="The databases, with {service} in the URL.")
]


def migrate(database_url: RequiredDatabaseUrl) -> None:
    """Bring every service's database to the newest version."""
    from mycelium.seed import migrate as migrate_all

    exit_on_database_error(lambda: migrate_all(database_url))


def seed(
    database_url: RequiredDatabaseUrl,
    alice: Annotated[str, typer.Option(envvar="ALICE_PASSWORD", help="Alice's password.")],
    bob: Annotated[str, typer.Option(envvar="BOB_PASSWORD", help="Bob's password.")],
    admin: Annotated[str, typer.Option(envvar="ADMIN_PASSWORD", help="The admin's password.")],
) -> None:
    """Add the tutorial's two products and three users. Not for production."""
    from mycelium.seed import seed as seed_all

    passwords = {"ALICE_PASSWORD": alice, "BOB_PASSWORD": bob, "ADMIN_PASSWORD": admin}
    exit_on_database_error(lambda: seed_all(database_url, passwords))


def new_migration(
    service: Annotated[str, typer.Argument(help="A folder of services/.")],
    message: Annotated[str, typer.Argument(help="The change in a few words, such as 'weight of a product'.")],
) -> None:
    """Write a service's next migration: what tables.py declares and the migrations lack."""
    from mycelium.seed import schemas_of
    from nameko_mesh.sql import migrations

    try:
        schemas = schemas_of(service)
    except ModuleNotFoundError as error:
        fail(f"SERVICE: expected a folder of services/ with a tables.py: {error}")
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{Path(scratch) / 'scratch.db'}"
        migrations.upgrade(url, schemas)
        migrations.new(url, schemas, message)
