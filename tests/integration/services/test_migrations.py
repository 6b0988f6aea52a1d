"""Migrations lead to the tables of the code, from nothing and from databases of older code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from nameko_mesh import outbox, sql
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import migrations, open_engine
from nameko_mesh.sql.schema_version import check_migrated
from services.products import commands
from services.products.store import ProductsStore
from tests.integration.services.conftest import SCHEMAS

OLD = Path(__file__).parent / "commit_8b5f135"
"""Dumps of the database of products, written by the last commit before the mesh had migrations of its own."""


@pytest.mark.parametrize("service", SCHEMAS)
def test_migrations_lead_to_the_tables_of_the_code(database_url, service):
    url = database_url.replace("{service}", service)
    migrations.upgrade(url, SCHEMAS[service])  # again: changes nothing
    migrations.check(url, SCHEMAS[service])


@pytest.mark.parametrize("service", SCHEMAS)
def test_each_schema_is_compared_without_the_tables_of_the_others(database_url, service, tmp_path):
    url = database_url.replace("{service}", service)
    engine = open_engine(url)
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    names = [schema.table_names for schema in SCHEMAS[service]]
    assert tables == set().union(*names)
    assert len(tables) == sum(map(len, names))


@pytest.mark.parametrize("service", ["products", "users", "orders"])
def test_unsent_event_of_an_older_version_becomes_a_row_of_one(empty_database_url, service):
    url = empty_database_url.replace("{service}", service)
    before = {"orders": "0001"}.get(service, "0002")
    migrations.upgrade(url, SCHEMAS[service], before)
    envelope = {"event_id": "e1", "aggregate_id": "a1", "data": {"name": "Zoë"}}
    engine = open_engine(url)
    with engine.begin() as connection:
        insert = (
            "INSERT INTO outbox (event_id, type, aggregate_id, awaited, envelope, created_at)"
            " VALUES ('e1', 'happened', 'a1', true, :envelope, :now)"
        )
        row = {"envelope": json.dumps(envelope), "now": datetime.now(UTC)}
        connection.execute(sa.text(insert), row)
    migrations.upgrade(url, SCHEMAS[service])
    with OutboxStore(engine).transaction() as tx:
        (bundle,) = tx.claim("a relay", 10)
    engine.dispose()
    assert (bundle.type, bundle.awaited, bundle.aggregate_ids) == ("happened", True, {"a1"})
    assert bundle.events == [envelope]


@pytest.mark.parametrize("name", ["inbox", "commands", "outbox"])
def test_table_of_another_kind_is_not_adopted(empty_database_url, name):
    url = empty_database_url.replace("{service}", "products")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (id integer PRIMARY KEY)")
    engine.dispose()
    with pytest.raises(CommandError, match=f"a table {name} that is not the mesh's"):
        migrations.upgrade(url, (sql.SCHEMA, outbox.SCHEMA))


@pytest.fixture
def old_database(empty_database_url):
    url = empty_database_url.replace("{service}", "products")
    engine = open_engine(url)
    with engine.connect() as connection:
        dump = (OLD / f"products.{connection.dialect.name}.sql").read_text()
        driver_connection = connection.connection.driver_connection
        if connection.dialect.name == "sqlite":
            driver_connection.executescript(dump)
        else:
            with driver_connection.cursor() as cursor:
                cursor.execute(dump)
    engine.dispose()
    return url


def test_database_of_older_code_is_adopted_with_its_rows(old_database):
    migrations.upgrade(old_database, SCHEMAS["products"])
    migrations.check(old_database, SCHEMAS["products"])
    engine = open_engine(old_database)
    check_migrated(engine, SCHEMAS["products"])
    with OutboxStore(engine).transaction() as tx:
        (row,) = tx.claim("a relay", 10)
        assert not tx.is_new("products.on_order_cancelled", "00000000-0000-4000-8000-000000000001")
    assert (row.type, row.aggregate_ids) == ("product_created", {"P001"})
    laptop = {"product_id": "P001", "name": "Laptop", "price_minor": 120050, "currency": "USD", "stock": 10}
    repeated = commands.create_product(ProductsStore(engine), "create-1", **laptop)
    engine.dispose()
    assert repeated.stock == 10
