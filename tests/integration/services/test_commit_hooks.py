"""The hooks of a transaction, which the outbox hangs on, and `sql` without an outbox."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from nameko_mesh import sql
from nameko_mesh.errors import Unavailable
from nameko_mesh.sql import Statement, Store, Transaction, migrations, open_engine

things = sa.Table("things", sa.MetaData(), sa.Column("name", sa.Text, primary_key=True))


class ThingsStore(Store[Transaction]):
    transaction_cls = Transaction


@pytest.fixture
def store(empty_database_url):
    """A store over a database with the tables of `sql` alone."""
    url = empty_database_url.replace("{service}", "users")
    migrations.upgrade(url, [sql.SCHEMA])
    engine = open_engine(url)
    with engine.begin() as connection:
        things.create(connection)
    yield ThingsStore(engine)
    engine.dispose()


@pytest.fixture
def calls():
    return []


def insert_with_hooks(store, calls, name="a thing"):
    with store.transaction() as tx:
        tx.before_commit(lambda: calls.append("before commit"))
        tx.after_commit(lambda: calls.append("after commit"))
        tx.on_unknown_outcome(lambda: calls.append("unknown outcome"))
        tx.on_rollback(lambda: calls.append("rollback"))
        tx.writes.insert(things, [{"name": name}])


def names(store):
    with store.transaction(read_only=True) as tx:
        return list(tx.connection.scalars(sa.select(things.c.name)))


def test_hooks_run_around_the_commit(store, calls):
    insert_with_hooks(store, calls)
    assert calls == ["before commit", "after commit"]


def test_writes_of_a_hook_are_committed_with_the_others(store):
    with store.transaction() as tx:
        tx.before_commit(lambda: tx.writes.insert(things, [{"name": "by the hook"}]))
        tx.writes.insert(things, [{"name": "by the command"}])
    assert sorted(names(store)) == ["by the command", "by the hook"]


def test_only_the_hook_for_a_rollback_runs_when_the_command_fails(store, calls):
    with pytest.raises(KeyError), store.transaction() as tx:
        _hook_flush_and_fail(tx, calls)
    assert calls == ["rollback"]
    assert names(store) == []


def _hook_flush_and_fail(tx, calls):
    tx.writes.insert(things, [{"name": "rolled back"}])
    tx.flush()
    tx.before_commit(lambda: calls.append("before commit"))
    tx.after_commit(lambda: calls.append("after commit"))
    tx.on_unknown_outcome(lambda: calls.append("unknown outcome"))
    tx.on_rollback(lambda: calls.append("rollback"))
    raise KeyError


def test_error_reported_by_the_server_is_a_known_outcome(store, calls):
    insert_with_hooks(store, calls)
    calls.clear()
    with pytest.raises(sa.exc.IntegrityError):
        insert_with_hooks(store, calls)
    assert calls == ["before commit", "rollback"]


def test_lost_answer_to_the_commit_is_an_unknown_outcome(store, calls, monkeypatch):
    commit = DefaultDialect.do_commit

    def commit_without_an_answer(self, connection):
        commit(self, connection)
        raise sa.exc.OperationalError("COMMIT", {}, OSError("the server has gone"))

    with monkeypatch.context() as patch:
        patch.setattr(DefaultDialect, "do_commit", commit_without_an_answer)
        with pytest.raises(Unavailable):
            insert_with_hooks(store, calls)
    assert calls == ["before commit", "unknown outcome"]
    assert names(store) == ["a thing"]


def test_callback_that_fails_after_the_last_statement_is_an_unknown_outcome(store, calls):
    def fail(_):
        raise KeyError("the result can't be read")

    insert = "INSERT INTO things VALUES ('sent') RETURNING 1"
    statement = Statement(insert, (), lambda connection: connection.exec_driver_sql(insert), "", fail)
    with pytest.raises(KeyError):
        _add(store, statement, calls)
    assert calls == ["unknown outcome"]


def _add(store, statement, calls):
    with store.transaction() as tx:
        tx.on_unknown_outcome(lambda: calls.append("unknown outcome"))
        tx.writes.add(statement)


def test_sql_alone_loads_nothing_of_events_and_outbox():
    program = (
        "import sys, nameko_mesh.sql; unwanted = ('nameko_mesh.events', 'nameko_mesh.outbox'); "
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert completed.stdout.strip() == "[]"
