"""Commands that prepare databases report a wrong argument in one line."""

from __future__ import annotations

import sqlite3

import pytest
from typer.testing import CliRunner

from mycelium.cli.app import app
from mycelium.servers import free_port

PASSWORDS = ["--alice", "a" * 8, "--bob", "b" * 8, "--admin", "c" * 8]


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", [["migrate"], ["seed", *PASSWORDS]])
def test_url_without_a_place_for_the_service_creates_no_database(command, tmp_path):
    refused = run(*command, f"sqlite:///{tmp_path}/shop.db")

    assert refused.exit_code == 1
    assert refused.output.startswith("DATABASE_URL: expected {service}")
    assert list(tmp_path.iterdir()) == []


def test_database_that_does_not_answer_is_reported_in_one_line():
    refused = run("migrate", f"postgresql://127.0.0.1:{free_port()}/{{service}}")

    assert refused.exit_code == 1
    assert refused.output.startswith("the database does not answer:")
    assert refused.output.count("\n") == 1


def test_database_of_an_unknown_version_is_reported_in_one_line(tmp_path):
    with sqlite3.connect(tmp_path / "products.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")

    refused = run("migrate", f"sqlite:///{tmp_path}/{{service}}.db")

    assert refused.exit_code == 1
    assert refused.output == "the database cannot be migrated: Can't locate revision identified by '9999'\n"


def test_migration_of_an_unknown_service_names_the_argument():
    refused = run("new-migration", "nosuch", "a change")

    assert refused.exit_code == 1
    assert refused.output.startswith("SERVICE: expected a folder of services/")


def test_database_that_is_not_migrated_is_reported_in_one_line(tmp_path, capfd):
    refused = run("outbox", "--database-url", f"sqlite:///{tmp_path}/{{service}}.db")

    assert refused.exit_code == 1
    assert (
        refused.output == "the database does not answer: (sqlite3.OperationalError) no such table: outbox\n"
    )
    assert capfd.readouterr().err == ""
