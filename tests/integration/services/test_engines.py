"""Engines in an eventlet process: others go on while one waits, and an interruption breaks nothing."""

from __future__ import annotations

import sqlite3
import time

import eventlet
import pytest
import sqlalchemy as sa
from eventlet import patcher
from greenlet import GreenletExit
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS

from nameko_mesh import sql
from nameko_mesh.errors import Unavailable
from nameko_mesh.sql import (
    StaleWrite,
    Store,
    Transaction,
    WriteBatch,
    migrations,
    open_engine,
    psycopg_eventlet,
    reading,
    select_among,
)
from nameko_mesh.sql.sqlite import run_in_thread
from tests.waiting import eventually


class SomeStore(Store[Transaction]):
    transaction_cls = Transaction


@pytest.fixture(scope="module")
def postgresql_url(postgresql_server):
    postgresql_server.create_database("engines")
    url = postgresql_server.url_for("engines")
    migrations.upgrade(url, [sql.SCHEMA])
    return url


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.db"


@pytest.fixture
def store(path):
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (name TEXT UNIQUE)")
    yield SomeStore(engine)
    engine.dispose()


def insert(store, name):
    with store.transaction() as tx:
        tx.connection.execute(sa.text("INSERT INTO things VALUES (:name)"), {"name": name})


def names(store):
    with store.transaction(read_only=True) as tx:
        return sorted(tx.connection.scalars(sa.text("SELECT name FROM things")))


@pytest.fixture
def locked(path):
    """The database while another process writes."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_process_runs_on_while_a_transaction_waits_for_a_lock(store, locked):
    waiting = eventlet.spawn(insert, store, "late")
    ticks = 0
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        eventlet.sleep(0.01)
        ticks += 1
    assert ticks > 10
    locked.execute("COMMIT")
    waiting.wait()
    assert names(store) == ["late"]


def test_lock_that_is_never_released_is_unavailable_in_time(store, locked, monkeypatch):
    started = time.monotonic()
    with pytest.raises(Unavailable):
        insert(store, "never")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("interrupt", ["kill", "timeout"])
def test_interrupted_transaction_keeps_its_connection_until_its_call_ends(store, locked, interrupt):
    def hurried(store, name):
        with eventlet.Timeout(0.05, TimeoutError()):
            insert(store, name)

    def ended(thread):
        """Return the type of the exception that ended the thread. eventlet raises or returns GreenletExit."""
        try:
            return type(thread.wait())
        except (TimeoutError, GreenletExit) as error:
            return type(error)

    started = [eventlet.spawn(insert if interrupt == "kill" else hurried, store, f"n{n}") for n in range(5)]
    eventlet.sleep(0.1)
    if interrupt == "kill":
        for one in started:
            one.kill()
    locked.execute("COMMIT")
    assert {ended(one) for one in started} == {GreenletExit if interrupt == "kill" else TimeoutError}
    for number in range(20):
        insert(store, f"after {number}")
    assert len([name for name in names(store) if name.startswith("after")]) == 20


@pytest.mark.parametrize("interrupt", ["kill", "timeout"])
def test_interrupted_call_ends_before_its_green_thread_continues(interrupt):
    ended = []

    def block():
        patcher.original("time").sleep(0.3)
        ended.append("the call")

    def make_the_call():
        try:
            with eventlet.Timeout(0.05 if interrupt == "timeout" else None):
                run_in_thread(block)
        finally:
            ended.append("its greenlet")

    caller = eventlet.spawn(make_the_call)
    eventlet.sleep(0.1)
    caller.kill()
    eventually(lambda: len(ended) == 2)
    assert ended == ["the call", "its greenlet"]


def test_writers_of_sqlite_are_served_in_order(store):
    """SQLite's own waiting knows no order; a hundred writers at once would starve some for seconds."""
    order = []

    def write(number):
        insert(store, f"n{number}")
        order.append(number)

    list(eventlet.GreenPool(100).imap(write, range(100)))
    assert order == list(range(100))


def test_integrity_error_passes_through(store):
    insert(store, "one")
    with pytest.raises(sa.exc.IntegrityError):
        insert(store, "one")


def test_statement_prepared_on_an_empty_table_looks_rows_up_by_index(postgresql_url):
    engine = open_engine(postgresql_url, plans_by_index=True)
    table = notes("by_key")
    try:
        with engine.begin() as connection:
            table.create(connection)
        with reading(engine) as connection:  # without a transaction, which VACUUM can't be in
            connection.execute(sa.text("VACUUM by_key"))  # now PostgreSQL knows for certain that it is empty
        with engine.begin() as connection:
            for _ in range(10):
                select_among(connection, (table.c.id, table.c.note), table.c.id, ["1", "2"], lock=True)
                with pytest.raises(StaleWrite):
                    change(connection, table, "1", "2")
                connection.exec_driver_sql("ROLLBACK; BEGIN")
            connection.execute(
                sa.text("INSERT INTO by_key SELECT n, '', 1 FROM generate_series(1, 5000) AS n")
            )
            select_among(connection, (table.c.id, table.c.note), table.c.id, ["1", "2"], lock=True)
            change(connection, table, "1", "2")
            plans = [
                "\n".join(connection.scalars(sa.text(f"EXPLAIN EXECUTE {name} ({values})")))
                for name, values in (("mesh_0", "'{1,2}'"), ("mesh_1", "'[]', 0"))
            ]
            table.drop(connection)
    finally:
        engine.dispose()
    for plan in plans:
        assert "Index" in plan
        assert "Seq Scan" not in plan
    assert "Tid Scan" in plans[1]


def test_statements_after_a_read_form_one_transaction_again(postgresql_url):
    engine = open_engine(postgresql_url, pool_size=1)
    table = notes("together")
    store = SomeStore(engine)

    def broken_off():
        with store.transaction() as tx:
            for one in "ab":
                tx.connection.execute(table.insert(), {"id": one, "note": "", "version": 1})
            raise KeyError("after both")

    try:
        with engine.begin() as connection:
            table.create(connection)
        for read in (_ids, _nothing):
            read(store, table)
            with pytest.raises(KeyError):
                broken_off()
            assert _ids(store, table) == []
        with engine.begin() as connection:
            table.drop(connection)
    finally:
        engine.dispose()


def _nothing(store, table):
    with store.transaction(read_only=True):
        """It has looked for something else, and then had no need to ask."""


def _ids(store, table):
    with store.transaction(read_only=True) as tx:
        return list(tx.connection.scalars(sa.select(table.c.id)))


def test_row_changed_since_it_was_read_raises_stale_write(postgresql_url):
    engine = open_engine(postgresql_url)
    table = notes("changing")
    store = SomeStore(engine)
    try:
        with engine.begin() as connection:
            table.create(connection)
            connection.execute(table.insert(), [{"id": one, "note": "", "version": 1} for one in "ab"])
        with store.transaction() as tx:
            tx.writes.update(table, rows_of("a", "b"), ("note", "version"), if_still="version")
        with pytest.raises(StaleWrite):
            insert_and_change(store, table)
        with engine.begin() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.id)).fetchall()
            table.drop(connection)
    finally:
        engine.dispose()
    assert rows == [("a", "changed", 2), ("b", "changed", 2)]


def insert_and_change(store, table):
    with store.transaction() as tx:
        tx.writes.insert(table, [{"id": "c", "note": "", "version": 1}])
        tx.writes.update(table, rows_of("b"), ("note", "version"), if_still="version")


def insert_and_break(store):
    with store.transaction() as tx:
        tx.connection.execute(sa.text("INSERT INTO some_more VALUES ('one')"))
        raise ZeroDivisionError


def notes(name):
    """A table whose rows count their changes."""
    columns = sa.Column("id", sa.Text, primary_key=True), sa.Column("note", sa.Text)
    return sa.Table(name, sa.MetaData(), *columns, sa.Column("version", sa.Integer))


def change(connection, table, *ids):
    writes = WriteBatch()
    writes.update(table, rows_of(*ids), ("note", "version"), if_still="version")
    writes.send(connection)


def rows_of(*ids):
    return [{"id": one, "note": "changed", "version": 2, "expected": 1} for one in ids]


def test_transaction_of_one_statement_sends_no_begin_and_no_commit(postgresql_url, monkeypatch):
    engine = open_engine(postgresql_url)
    store = SomeStore(engine)
    said = []
    try:
        with store.transaction() as tx:
            tx.connection.execute(sa.text("CREATE TABLE alone (name text)"))
        table = sa.Table("alone", sa.MetaData(), sa.Column("name", sa.Text))
        execute = psycopg_eventlet._Cursor.execute

        def noting(cursor, query, values=None):
            said.append(str(query).split()[0])
            execute(cursor, query, values)

        for names in (["one"], ["two"], ["three", "four"]):
            said.clear()
            monkeypatch.setattr(psycopg_eventlet._Cursor, "execute", noting)
            with store.transaction() as tx:
                if len(names) > 1:
                    tx.connection.execute(sa.text("SELECT 1"))
                tx.writes.insert(table, [{"name": name} for name in names])
            monkeypatch.undo()
            expected = {
                "one": ["PREPARE", "EXECUTE"],
                "two": ["EXECUTE"],
                "three": ["SELECT", "EXECUTE", "COMMIT"],
            }
            assert said == expected[names[0]]
        with store.transaction(read_only=True) as tx:
            assert tx.connection.scalar(sa.text("SELECT count(*) FROM alone")) == 4
        with store.transaction() as tx:
            tx.connection.execute(sa.text("DROP TABLE alone"))
    finally:
        engine.dispose()


def test_first_statement_begins_the_transaction_and_reads_begin_none(postgresql_url):
    engine = open_engine(postgresql_url)
    store = SomeStore(engine)
    try:
        for read_only in (True, False):
            with store.transaction(read_only=read_only) as tx:
                status = tx.connection.connection.driver_connection.info.transaction_status
                assert status == TRANSACTION_STATUS_IDLE
                assert tx.connection.scalar(sa.text("SELECT 1")) == 1
                status = tx.connection.connection.driver_connection.info.transaction_status
                assert status == (TRANSACTION_STATUS_IDLE if read_only else TRANSACTION_STATUS_INTRANS)
        with store.transaction() as tx:
            tx.connection.execute(sa.text("CREATE TABLE some_more (name text)"))
        with pytest.raises(ZeroDivisionError):
            insert_and_break(store)
        with store.transaction(read_only=True) as tx:
            assert tx.connection.scalar(sa.text("SELECT count(*) FROM some_more")) == 0
        with store.transaction() as tx:
            tx.connection.execute(sa.text("DROP TABLE some_more"))
    finally:
        engine.dispose()


def test_statement_after_a_syntax_error_is_still_in_the_transaction(postgresql_url):
    engine = open_engine(postgresql_url)
    store = SomeStore(engine)
    try:
        with store.transaction() as tx:
            with pytest.raises(sa.exc.ProgrammingError):
                tx.connection.execute(sa.text("NO SQL AT ALL"))
            tx.connection.execute(sa.text("SELECT 1"))
            status = tx.connection.connection.driver_connection.info.transaction_status
            assert status == TRANSACTION_STATUS_INTRANS
    finally:
        engine.dispose()
