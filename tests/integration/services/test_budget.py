"""Statements under a deadline: a late statement is not begun, and a slow statement is cancelled."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3 as driver
import subprocess
import time

import eventlet
import pytest
import sqlalchemy as sa

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.sql import Store, Transaction, open_engine
from nameko_mesh.sql.postgresql import resolve_url
from tests.waiting import eventually

SHORT = 0.3
FREEZE = 8
LONG_AFTER = 4.0
"""Seconds. Shorter than each timeout that holds without a deadline."""


class SomeStore(Store[Transaction]):
    transaction_cls = Transaction


def within(seconds, work, *args):
    """Do work under a deadline. Returns its result or error, and the seconds that it took."""

    def run():
        deadline.start(time.time() + seconds)
        began = time.monotonic()
        try:
            outcome = work(*args)
        except Exception as error:
            outcome = error
        return outcome, time.monotonic() - began

    return eventlet.spawn(run).wait()


def execute(store, statement):
    """Execute a statement, and return its rows."""
    with store.transaction() as tx:
        result = tx.connection.execute(sa.text(statement))
        return result.all() if result.returns_rows else []


@pytest.fixture
def postgresql(postgresql_server):
    postgresql_server.create_database("budget")
    engine = open_engine(postgresql_server.url_for("budget"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS things")
        connection.exec_driver_sql("CREATE TABLE things (name TEXT)")
        connection.exec_driver_sql("INSERT INTO things VALUES ('one')")
    yield SomeStore(engine)
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/budget.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (name TEXT)")
    yield SomeStore(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request):
    return request.getfixturevalue(request.param)


def sessions(store):
    """The pid and state of each PostgreSQL session of this process."""
    query = (
        "SELECT pid, state FROM pg_stat_activity WHERE datname = 'budget' AND pid <> pg_backend_pid() "
        "ORDER BY pid"
    )
    with store.transaction(read_only=True) as tx:
        return [tuple(row) for row in tx.connection.execute(sa.text(query))]


def test_statement_after_the_deadline_is_not_begun(store):
    error, took = within(-1, execute, store, "INSERT INTO things VALUES ('late')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    assert not execute(store, "SELECT name FROM things WHERE name = 'late'")


def test_statement_before_the_deadline_is_committed(store):
    within(60, execute, store, "INSERT INTO things VALUES ('in time')")
    assert execute(store, "SELECT name FROM things WHERE name = 'in time'")


def test_slow_statement_is_cancelled_at_the_deadline(postgresql):
    error, took = within(SHORT, execute, postgresql, "INSERT INTO things SELECT 'slow' FROM pg_sleep(9)")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    eventually(lambda: all(state != "active" for _, state in sessions(postgresql)), what="the cancel")
    assert not execute(postgresql, "SELECT name FROM things WHERE name = 'slow'")


def test_wait_for_a_lock_is_cancelled_at_the_deadline(postgresql):
    with postgresql.transaction() as tx:
        tx.connection.execute(sa.text("UPDATE things SET name = 'mine'"))
        error, took = within(SHORT, execute, postgresql, "UPDATE things SET name = 'yours'")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    assert execute(postgresql, "SELECT name FROM things") == [("mine",)]


def test_connection_survives_a_cancelled_statement(postgresql):
    def backend():
        return execute(postgresql, "SELECT pg_backend_pid()")

    before = backend()
    within(SHORT, execute, postgresql, "SELECT pg_sleep(9)")
    assert backend() == before


def test_cancel_does_not_disturb_other_statements(postgresql):
    slow = [
        eventlet.spawn(within, SHORT, execute, postgresql, f"SELECT pg_sleep(9), {number}")
        for number in range(3)
    ]
    while not all(thread.dead for thread in slow):
        outcome, _ = within(60, execute, postgresql, "SELECT 7")
        assert outcome == [(7,)]
    assert all(isinstance(thread.wait()[0], DeadlineExceeded) for thread in slow)


def test_frozen_server_does_not_freeze_the_process(postgresql, postgresql_server):
    """The frozen postmaster accepts no connection, not even the one that cancels a statement."""
    (postmaster,) = execute(postgresql, "SELECT pg_read_file('postmaster.pid')")
    pid = int(postmaster[0].split()[0])
    thaw = subprocess.Popen(  # in case this process freezes, too
        ["sh", "-c", f"sleep {FREEZE}; kill -CONT {pid}"], start_new_session=True
    )
    beats = []

    def beat():
        while True:
            beats.append(time.monotonic())
            eventlet.sleep(0.01)

    beating = eventlet.spawn(beat)
    try:
        os.kill(pid, signal.SIGSTOP)
        error, _ = within(SHORT, execute, postgresql, "SELECT pg_sleep(60)")
        is_frozen = thaw.poll() is None
    finally:
        os.kill(pid, signal.SIGCONT)
        beating.kill()
        os.killpg(thaw.pid, signal.SIGKILL)
        thaw.wait()
    assert isinstance(error, DeadlineExceeded)
    assert is_frozen, "the server thawed before the statement was given up"
    assert max(after - before for before, after in itertools.pairwise(beats)) < FREEZE / 2


def test_statements_of_a_transaction_share_the_deadline(postgresql):
    def three():
        with postgresql.transaction() as tx:
            for _ in range(3):
                tx.connection.execute(sa.text("SELECT pg_sleep(0.6)"))

    error, took = within(1.0, three)
    assert isinstance(error, DeadlineExceeded)
    assert 1.0 <= took < 1.7


def test_commit_in_progress_is_not_cancelled(postgresql):
    """The check of a deferred constraint makes the commit slow."""
    for statement in (
        "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION dawdle()",
    ):
        execute(postgresql, statement)
    outcome, took = within(SHORT, execute, postgresql, "INSERT INTO things VALUES ('committed')")
    assert not isinstance(outcome, Exception)
    assert took >= 1.0
    assert execute(postgresql, "SELECT name FROM things WHERE name = 'committed'")


def test_plain_engine_works_beside_the_green_one(postgresql, postgresql_server):
    """Migrations have an engine of their own, while the wait callback serves the whole process."""
    plain = sa.create_engine(resolve_url(postgresql_server.url_for("budget")))
    with plain.begin() as connection:
        assert connection.execute(sa.text("SELECT name FROM things")).all() == [("one",)]
    plain.dispose()


def test_statement_without_a_deadline_has_the_default_timeout(postgresql):
    with postgresql.transaction() as tx:
        assert tx.connection.execute(sa.text("SHOW statement_timeout")).scalar_one() == "10s"
        tx.connection.execute(sa.text(f"SELECT pg_sleep({2 * SHORT})"))


@pytest.fixture
def locked(tmp_path, sqlite):
    """The SQLite database while another process writes."""
    other = driver.connect(tmp_path / "budget.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_sqlite_wait_for_another_process_ends_at_the_deadline(sqlite, locked):
    error, took = within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER


def test_sqlite_wait_for_the_same_process_ends_at_the_deadline(sqlite):
    with sqlite.transaction():
        error, took = within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER


def test_deadline_does_not_shorten_later_waits_of_its_connection(sqlite, locked):
    within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        execute(sqlite, "INSERT INTO things VALUES ('never')")
    assert time.monotonic() - began > LONG_AFTER
