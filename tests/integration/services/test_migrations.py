"""The tables in the code are the tables in the database."""

from __future__ import annotations

import pytest

from mesh import migrations
from tests.integration.services.conftest import METADATA, migrations_of


@pytest.mark.parametrize("service", METADATA)
def test_the_migrations_lead_to_the_tables_of_the_code(database_url, service):
    url = database_url.replace("{service}", service)
    migrations.upgrade(url, migrations_of(service))  # again: changes nothing
    migrations.check(url, migrations_of(service))
