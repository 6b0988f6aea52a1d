"""The database under a deadline: what is too late is not begun, what is under way is cancelled."""

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
"""Less than any limit that stands without a deadline."""


class SomeStore(Store[Transaction]):
    transaction_cls = Transaction


def within(seconds, work, *args):
    """What comes of work that has so much time, and how long it took."""

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
    """The rows that it returns."""
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
    """Those of PostgreSQL that this process has, and which of them work."""
    query = (
        "SELECT pid, state FROM pg_stat_activity WHERE datname = 'budget' AND pid <> pg_backend_pid() "
        "ORDER BY pid"
    )
    with store.transaction(read_only=True) as tx:
        return [tuple(row) for row in tx.connection.execute(sa.text(query))]


def test_what_is_too_late_is_not_begun(store):
    error, took = within(-1, execute, store, "INSERT INTO things VALUES ('late')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    assert not execute(store, "SELECT name FROM things WHERE name = 'late'")


def test_what_is_in_time_is_done(store):
    within(60, execute, store, "INSERT INTO things VALUES ('in time')")
    assert execute(store, "SELECT name FROM things WHERE name = 'in time'")


def test_a_slow_statement_is_cancelled_at_the_deadline(postgresql):
    error, took = within(SHORT, execute, postgresql, "INSERT INTO things SELECT 'slow' FROM pg_sleep(9)")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    eventually(lambda: all(state != "active" for _, state in sessions(postgresql)), what="the cancel")
    assert not execute(postgresql, "SELECT name FROM things WHERE name = 'slow'")


def test_so_is_the_wait_for_a_lock(postgresql):
    with postgresql.transaction() as tx:
        tx.connection.execute(sa.text("UPDATE things SET name = 'mine'"))
        error, took = within(SHORT, execute, postgresql, "UPDATE things SET name = 'yours'")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER
    assert execute(postgresql, "SELECT name FROM things") == [("mine",)]


def test_a_connection_outlives_a_cancelled_statement(postgresql):
    def backend():
        return execute(postgresql, "SELECT pg_backend_pid()")

    before = backend()
    within(SHORT, execute, postgresql, "SELECT pg_sleep(9)")
    assert backend() == before


def test_others_go_on_while_one_is_cancelled(postgresql):
    slow = [
        eventlet.spawn(within, SHORT, execute, postgresql, f"SELECT pg_sleep(9), {number}")
        for number in range(3)
    ]
    while not all(one.dead for one in slow):
        outcome, _ = within(60, execute, postgresql, "SELECT 7")
        assert outcome == [(7,)]
    assert all(isinstance(one.wait()[0], DeadlineExceeded) for one in slow)


def test_nobody_is_frozen_by_a_server_that_is_frozen(postgresql, postgresql_server):
    """Its postmaster lets nobody in any more, not even who comes to have a statement cancelled."""
    (postmaster,) = execute(postgresql, "SELECT pg_read_file('postmaster.pid')")
    pid = int(postmaster[0].split()[0])
    thaw = subprocess.Popen(  # if we are frozen ourselves
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
    assert is_frozen, "the server was thawed before anybody gave it up"
    assert max(after - before for before, after in itertools.pairwise(beats)) < FREEZE / 2


def test_all_statements_of_a_transaction_share_what_is_left(postgresql):
    def three():
        with postgresql.transaction() as tx:
            for _ in range(3):
                tx.connection.execute(sa.text("SELECT pg_sleep(0.6)"))

    error, took = within(1.0, three)
    assert isinstance(error, DeadlineExceeded)
    assert 1.0 <= took < 1.7


def test_a_commit_that_has_begun_is_let_end(postgresql):
    """The check of a deferred constraint makes it a slow one."""
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


def test_connections_that_are_none_of_ours_work_beside_them(postgresql, postgresql_server):
    """Migrations have an engine of their own, and the wait callback is that of the whole process."""
    plain = sa.create_engine(resolve_url(postgresql_server.url_for("budget")))
    with plain.begin() as connection:
        assert connection.execute(sa.text("SELECT name FROM things")).all() == [("one",)]
    plain.dispose()


def test_without_a_deadline_the_standing_limits_hold(postgresql):
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


def test_on_sqlite_the_wait_for_another_process_ends_with_the_deadline(sqlite, locked):
    error, took = within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER


def test_so_does_the_wait_for_others_of_the_same_process(sqlite):
    with sqlite.transaction():
        error, took = within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    assert isinstance(error, DeadlineExceeded)
    assert took < LONG_AFTER


def test_who_has_no_deadline_waits_as_long_as_ever_on_the_same_connection(sqlite, locked):
    within(SHORT, execute, sqlite, "INSERT INTO things VALUES ('never')")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        execute(sqlite, "INSERT INTO things VALUES ('never')")
    assert time.monotonic() - began > LONG_AFTER
