"""A service does not start on a database that its code was not written for."""

from __future__ import annotations

import pytest

from mycelium.servers import free_port
from nameko_mesh.sql import migrations
from nameko_mesh.sql.engine import open_engine
from nameko_mesh.sql.schema_version import NotMigrated, check_migrated
from tests.integration.services.conftest import migrations_of


def test_a_migrated_database_will_do(engines):
    check_migrated(engines("orders"), migrations_of("orders"))


def test_one_that_was_never_migrated_is_refused_with_what_to_do(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/orders.db")
    with pytest.raises(NotMigrated, match=r"orders.db is at version None.*mycelium migrate"):
        check_migrated(engine, migrations_of("orders"))


def test_one_that_is_newer_than_the_code_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/orders.db"
    migrations.upgrade(url, migrations_of("orders"))
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NotMigrated, match="9999"):
        check_migrated(engine, migrations_of("orders"))


def test_one_that_is_away_is_waited_for_later():
    engine = open_engine(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    check_migrated(engine, migrations_of("orders"))
