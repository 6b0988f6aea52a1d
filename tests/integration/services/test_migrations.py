"""The tables in the code are the tables in the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import migrations
from nameko_mesh.sql.engine import open_engine
from tests.integration.services.conftest import METADATA, migrations_of


@pytest.mark.parametrize("service", METADATA)
def test_the_migrations_lead_to_the_tables_of_the_code(database_url, service):
    url = database_url.replace("{service}", service)
    migrations.upgrade(url, migrations_of(service))  # again: changes nothing
    migrations.check(url, migrations_of(service))


@pytest.mark.parametrize("service", ["products", "users", "orders"])
def test_an_event_that_an_older_version_left_unsent_becomes_a_bundle_of_one(empty_database_url, service):
    url = empty_database_url.replace("{service}", service)
    before = {"orders": "0001"}.get(service, "0002")
    migrations.upgrade(url, migrations_of(service), before)
    envelope = {"event_id": "e1", "aggregate_id": "a1", "data": {"name": "Zoë"}}
    engine = open_engine(url)
    with engine.begin() as connection:
        insert = (
            "INSERT INTO outbox (event_id, type, aggregate_id, awaited, envelope, created_at)"
            " VALUES ('e1', 'happened', 'a1', true, :envelope, :now)"
        )
        row = {"envelope": json.dumps(envelope), "now": datetime.now(UTC)}
        connection.execute(sa.text(insert), row)
    migrations.upgrade(url, migrations_of(service))
    with OutboxStore(engine).transaction() as tx:
        (bundle,) = tx.claim("a relay", 10)
    engine.dispose()
    assert (bundle.type, bundle.awaited, bundle.aggregate_ids) == ("happened", True, {"a1"})
    assert bundle.events == [envelope]
