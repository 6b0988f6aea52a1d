"""`mycelium migrate`, `seed` and `new-migration`: prepare the services' databases."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

RequiredDatabaseUrl = Annotated[
    str, typer.Argument(envvar="DATABASE_URL", help="The databases, with {service} in the URL.")
]


def migrate(database_url: RequiredDatabaseUrl) -> None:
    """Bring every service's database to the newest version."""
    from mycelium.seed import migrate as migrate_all

    migrate_all(database_url)


def seed(
    database_url: RequiredDatabaseUrl,
    alice: Annotated[str, typer.Option(envvar="ALICE_PASSWORD", help="Alice's password.")],
    bob: Annotated[str, typer.Option(envvar="BOB_PASSWORD", help="Bob's password.")],
    admin: Annotated[str, typer.Option(envvar="ADMIN_PASSWORD", help="The admin's password.")],
) -> None:
    """Add the tutorial's two products and three users. Not for production."""
    from mycelium.seed import seed as seed_all

    seed_all(database_url, {"ALICE_PASSWORD": alice, "BOB_PASSWORD": bob, "ADMIN_PASSWORD": admin})


def new_migration(service: str, message: str) -> None:
    """Write a service's next migration: what tables.py declares and the migrations lack."""
    from mycelium.seed import schemas_of
    from nameko_mesh.sql import migrations

    schemas = schemas_of(service)
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{Path(scratch) / 'scratch.db'}"
        migrations.upgrade(url, schemas)
        migrations.new(url, schemas, message)
