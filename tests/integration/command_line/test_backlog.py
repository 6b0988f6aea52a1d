"""`mycelium outbox` and `mycelium sagas` read the databases of a mesh."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from mycelium.cli.app import app
from mycelium.seed import migrate, seed
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import open_engine
from services.orders.store import OrdersStore
from tests.builders import a_customer, a_request

PASSWORDS = dict.fromkeys(("ALICE_PASSWORD", "BOB_PASSWORD", "ADMIN_PASSWORD"), "a long password")


@pytest.fixture(scope="module")
def database_url(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('databases')}/{{service}}.db"
    migrate(url)
    seed(url, PASSWORDS)
    seed(url, PASSWORDS)  # the second run adds nothing
    return url


@pytest.fixture
def command(database_url):
    def run(*arguments):
        done = CliRunner().invoke(app, list(arguments), env={"DATABASE_URL": database_url})
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_outbox_counts_unsent_events_per_service(command):
    unsent = {lag["service"]: lag["unsent"] for lag in json.loads(command("outbox", "--json"))}
    assert unsent == {"products": 2, "users": 3, "orders": 0}
    assert "oldest seconds" in command("outbox")


def test_sagas_lists_a_pending_order_with_its_attempts(command, database_url):
    assert command("sagas") == "nothing waits\n"
    engine = open_engine(database_url.replace("{service}", "orders"))
    customer, request = a_customer(), a_request()
    with OrdersStore(engine).transaction() as tx:
        tx.learn(customer)
        tx.add_pending([request], lease=timedelta(0))
    (order,) = tx.added.values()
    engine.dispose()
    (waiting,) = json.loads(command("sagas", "--json"))
    assert (waiting["order_id"], waiting["attempts"]) == (order.id, 0)
    assert order.id in command("sagas")


def test_sagas_without_a_database_url_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MYCELIUM_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    done = CliRunner().invoke(app, ["sagas"])
    assert done.exit_code == 1
    assert "DATABASE_URL" in done.stderr


def test_outbox_counts_a_claimed_event_as_unsent(command, database_url):
    engine = open_engine(database_url.replace("{service}", "products"))
    with OutboxStore(engine).transaction() as tx:
        assert len(tx.claim("a relay", 1)) == 1
    engine.dispose()
    unsent = {lag["service"]: lag["unsent"] for lag in json.loads(command("outbox", "--json"))}
    assert unsent["products"] == 2
