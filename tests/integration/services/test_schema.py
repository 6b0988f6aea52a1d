"""A service does not start on a database that its code was not written for."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from mycelium.servers import free_port
from nameko_mesh.sql import NotMigrated, Schema, migrations, open_engine
from nameko_mesh.sql.schema_version import check_migrated
from tests.integration.services.conftest import SCHEMAS


def test_migrated_database_passes(engines):
    check_migrated(engines("orders"), SCHEMAS["orders"])


def test_database_without_tables_is_refused_with_what_to_do(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/orders.db")
    with pytest.raises(NotMigrated, match=r"orders.db is at version None.*mycelium migrate"):
        check_migrated(engine, SCHEMAS["orders"])


@pytest.mark.parametrize("version_table", ["alembic_version", "mesh_sql_version", "mesh_outbox_version"])
def test_database_newer_than_the_code_is_refused(tmp_path, version_table):
    url = f"sqlite:///{tmp_path}/orders.db"
    migrations.upgrade(url, SCHEMAS["orders"])
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {version_table} SET version_num = '9999'")
    with pytest.raises(NotMigrated, match=f"9999 in {version_table}.*start that code"):
        check_migrated(engine, SCHEMAS["orders"])


def test_revisions_without_a_number_are_not_compared(tmp_path):
    """Alembic's own names of revisions are hexadecimal and in no order."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "1975ea83b712_first.py").touch()
    assert Schema(sa.MetaData(), tmp_path).head is None


def test_database_that_is_away_passes():
    engine = open_engine(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    check_migrated(engine, SCHEMAS["orders"])
