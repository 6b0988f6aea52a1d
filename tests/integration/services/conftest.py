"""Stores of the services over real databases: every test here runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nameko_mesh.outbox import Handoff
from nameko_mesh.sql import migrations, open_engine
from services.notifications import tables as notifications_tables
from services.notifications.store import MailsStore
from services.orders import tables as orders_tables
from services.orders.store import OrdersStore
from services.products import tables as products_tables
from services.products.store import ProductsStore
from services.users import tables as users_tables
from services.users.store import UsersStore
from tests.builders import a_customer

SCHEMAS = {
    "products": products_tables.SCHEMAS,
    "users": users_tables.SCHEMAS,
    "orders": orders_tables.SCHEMAS,
    "notifications": notifications_tables.SCHEMAS,
}


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A template with `{service}` in it, of migrated databases."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('databases')}/{{service}}.db"
    else:
        server = request.getfixturevalue("postgresql_server")
        for service in SCHEMAS:
            server.create_database(service)
        url = server.url_for("{service}")
    for service in SCHEMAS:
        migrations.upgrade(url.replace("{service}", service), SCHEMAS[service])
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A template with `{service}` in it, of databases without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/{{service}}.db"
    server = request.getfixturevalue("postgresql_server")
    suffix = uuid.uuid4().hex
    for service in SCHEMAS:
        server.create_database(f"{service}_{suffix}")
    return str(server.url_for(f"{{service}}_{suffix}"))


def tables_of(service: str) -> list[sa.Table]:
    return [table for schema in SCHEMAS[service] for table in schema.metadata.sorted_tables]


@pytest.fixture(scope="session")
def engines(database_url: str) -> Iterator[Callable[[str], sa.Engine]]:
    opened: dict[str, sa.Engine] = {}

    def engine_of(service: str) -> sa.Engine:
        if service not in opened:
            opened[service] = open_engine(database_url.replace("{service}", service))
        return opened[service]

    yield engine_of
    for engine in opened.values():
        engine.dispose()


@pytest.fixture
def handoff() -> Handoff:
    return Handoff()


@pytest.fixture
def empty_engine(engines: Callable[[str], sa.Engine]) -> Iterator[Callable[[str], sa.Engine]]:
    """The engine of a service whose tables are empty, now and after the test."""
    used: set[str] = set()

    def engine_of(service: str) -> sa.Engine:
        used.add(service)
        return engines(service)

    yield engine_of
    for service in used:
        with engines(service).begin() as connection:
            for table in tables_of(service):
                connection.execute(table.delete())


@pytest.fixture
def products_store(empty_engine: Any, handoff: Handoff) -> ProductsStore:
    return ProductsStore(empty_engine("products"), handoff)


@pytest.fixture
def users_store(empty_engine: Any, handoff: Handoff) -> UsersStore:
    return UsersStore(empty_engine("users"), handoff)


@pytest.fixture
def orders_store(empty_engine: Any, handoff: Handoff) -> OrdersStore:
    """A store that has a copy of one customer, U001."""
    store = OrdersStore(empty_engine("orders"), handoff)
    with store.transaction() as tx:
        tx.learn(a_customer())
    return store


@pytest.fixture
def mails_store(empty_engine: Any) -> MailsStore:
    return MailsStore(empty_engine("notifications"))
