"""A private PostgreSQL, from the installed binaries and from fetched packages."""

import os
import socket
import stat
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from mycelium.servers import ServerError, postgresql, running
from tests.integration.servers.observed import is_loopback, listeners, processes_of

PATIENCE = 30.0


@pytest.fixture(scope="module", params=["machine's", "fetched"])
def installation(request, cache):
    return postgresql.find_or_fetch(cache, print, use_machine=request.param != "fetched")


@pytest.fixture
def server(installation, tmp_path):
    return installation.server(tmp_path / "data", durable=False)


def query(server, statement, database="postgres"):
    connection = psycopg2.connect(server.url_for(database).replace("+psycopg2", ""), connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def test_rows_and_address_survive_a_restart(installation, tmp_path, logs):
    server = installation.server(tmp_path / "data")
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
        server.create_database("orders")
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer", "orders")
    assert not server.is_ready()

    again = installation.server(tmp_path / "data", server.port)
    assert again.url_for("orders") == server.url_for("orders")
    with running(*again.programs, log_dir=logs) as processes:
        processes.wait_until(again.is_ready, PATIENCE, "PostgreSQL")
        assert query(again, "SELECT answer FROM kept", "orders") == [(42,)]


def test_create_database_is_idempotent_for_any_name(server, logs):
    strange = """it's "quoted"; DROP"""
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
        for name in ("orders", "orders", strange, strange):
            server.create_database(name)
        names = {name for (name,) in query(server, "SELECT datname FROM pg_database")}
    assert {"orders", strange} <= names


def test_server_stops_at_once_although_a_client_is_connected(server, logs):
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
        staying = psycopg2.connect(server.url_for("postgres").replace("+psycopg2", ""))
        began = time.monotonic()
    assert time.monotonic() - began < postgresql.STOP_SECONDS / 2
    staying.close()


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_durable_option_sets_fsync(installation, tmp_path, logs, durable, fsync):
    server = installation.server(tmp_path / "data", durable=durable)
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
        assert query(server, "SHOW fsync") == [(fsync,)]
        assert query(server, "SHOW timezone") == [("GMT",)]


def test_two_servers_listen_on_the_loopback_and_share_nothing(installation, tmp_path, logs):
    first, second = (installation.server(tmp_path / name, durable=False) for name in ("first", "second"))
    with (
        running(*first.programs, log_dir=logs / "first") as first_processes,
        running(*second.programs, log_dir=logs / "second") as second_processes,
    ):
        first_processes.wait_until(first.is_ready, PATIENCE, "first")
        second_processes.wait_until(second.is_ready, PATIENCE, "second")
        first.create_database("orders")
        assert ("orders",) not in query(second, "SELECT datname FROM pg_database")
        sockets = listeners(processes_of(tmp_path))
    assert {first.port, second.port} <= {port for _, port in sockets}
    assert all(is_loopback(address) for address, _ in sockets)


def test_wrong_password_is_refused(server, logs):
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
        url = server.url_for("postgres").replace("+psycopg2", "").replace(server.password, "guess")
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns folders that PostgreSQL's user cannot enter")
def test_server_runs_in_a_folder_that_only_root_can_enter(installation, logs, tmp_path):
    with tempfile.TemporaryDirectory(dir=tmp_path) as closed:
        Path(closed).chmod(0o700)
        server = installation.server(Path(closed) / "below" / "data", durable=False)
        with running(*server.programs, log_dir=logs) as processes:
            processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")
            server.create_database("orders")
            user = int(Path(f"/proc/{processes['postgresql'].pid}").stat().st_uid)
    assert user != 0


def test_password_is_readable_by_its_owner_only(server, tmp_path):
    assert stat.S_IMODE((tmp_path / "data" / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data" / "cluster").stat().st_mode) == 0o700


def test_interrupted_initialisation_starts_again(installation, tmp_path, logs):
    half_way = tmp_path / "data" / "cluster.new"
    half_way.mkdir(parents=True)
    (half_way / "PG_VERSION").write_text("1")
    server = installation.server(tmp_path / "data", durable=False)
    with running(*server.programs, log_dir=logs) as processes:
        processes.wait_until(server.is_ready, PATIENCE, "PostgreSQL")


def test_silent_listener_is_not_ready_within_a_second(installation, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = installation.server(tmp_path / "data", silent.getsockname()[1], durable=False)
        began = time.monotonic()
        assert not server.is_ready()
        assert time.monotonic() - began < 1.0


def test_initdb_failure_is_reported_with_its_message(tmp_path):
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "initdb").write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    (broken / "initdb").chmod(0o755)
    with pytest.raises(ServerError, match="initdb failed: the disk is full"):
        postgresql.Installation(broken, {}).server(tmp_path / "data")
