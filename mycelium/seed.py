"""Migrate the databases, and seed them with the tutorial's two products and three users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from mycelium.runner.process_plan import SERVICES, database_url_for
from nameko_mesh.sql import Schema, migrations, open_engine
from services.products import commands as products
from services.products.domain import ProductExists
from services.products.store import ProductsStore
from services.users import commands as users
from services.users.domain import ADMIN, USER, EmailTaken
from services.users.store import UsersStore

PRODUCTS = (
    {"product_id": "P001", "name": "Laptop", "price_minor": 120050, "currency": "USD", "stock": 10},
    {"product_id": "P002", "name": "Keyboard", "price_minor": 7599, "currency": "USD", "stock": 50},
)
USERS = (
    ("U001", "Alice", "alice@example.com", USER),
    ("U002", "Bob", "bob@example.com", USER),
    ("U000", "Admin", "admin@example.com", ADMIN),
)


def migrate(database_url: str) -> None:
    """Bring every service's database to the newest version. Raises InvalidDatabaseUrl."""
    for service in SERVICES:
        migrations.upgrade(database_url_for(database_url, service), schemas_of(service))


def schemas_of(service: str) -> Sequence[Schema]:
    """Return the schemas in a service's database: its own first, then the mesh's."""
    schemas: Sequence[Schema] = import_module(f"services.{service}.tables").SCHEMAS
    return schemas


def seed(database_url: str, passwords: Mapping[str, str]) -> None:
    """Add the seed products and users that are missing. Existing rows stay as they are.

    `passwords` has ALICE_PASSWORD, BOB_PASSWORD and ADMIN_PASSWORD.
    """
    _seed_products(database_url_for(database_url, "products"))
    _seed_users(database_url_for(database_url, "users"), passwords)


def _seed_products(url: str) -> None:
    engine = open_engine(url)
    for fields in PRODUCTS:
        try:
            products.create_product(ProductsStore(engine), None, **fields)
        except ProductExists:
            continue
    engine.dispose()


def _seed_users(url: str, passwords: Mapping[str, str]) -> None:
    engine = open_engine(url)
    store = UsersStore(engine)
    with store.transaction(read_only=True) as tx:
        known = tx.users([user_id for user_id, *_ in USERS])
    for user_id, name, email, role in USERS:
        if user_id not in known:
            password = passwords[f"{name.upper()}_PASSWORD"]
            try:
                users.register_user(
                    store, user_id=user_id, name=name, email=email, role=role, password=password
                )
            except EmailTaken:
                continue
    engine.dispose()
