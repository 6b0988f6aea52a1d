"""Database engines that leave an eventlet process alive while a query waits.

psycopg2 yields to the hub through its wait callback. sqlite3 has no such thing: a lock held by
another process would freeze this one, so its blocking calls run in eventlet's thread pool.

What is waited for ends with the budget of the work in hand (nameko_mesh.deadline): on PostgreSQL any statement,
on SQLite the wait for a lock, which is all that takes long there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import eventlet
import orjson
import psycopg2.extensions
import sqlalchemy as sa
from eventlet import tpool
from sqlalchemy.pool import QueuePool

from nameko_mesh import deadline
from nameko_mesh.fair_lock import Turn
from nameko_mesh.green_postgresql import (
    CONNECT_SECONDS,
    LOCK_SECONDS,
    STATEMENT_SECONDS,
    Connection,
    wait_in_the_hub,
)

POOL_SIZE = 10
_BY_INDEX = (
    "-c random_page_cost=1.1 -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan"
)
"""A service asks for rows by their keys. PostgreSQL keeps the plan of a prepared statement, and one that was
made while the table was small reads all of it ever after, until the next ANALYZE. Where it thinks that a plan
for the values in hand would be better, it makes one each time: that takes longer than to look up a row."""

T = TypeVar("T")

_turns: WeakKeyDictionary[sa.Engine, Turn] = WeakKeyDictionary()


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction that commits at the end: on SQLite one after the other, in the order of
    their coming.

    SQLite lets one write at a time, and those who wait for it look again now and then: whoever comes
    just then gets it, and another starves. Raises Unavailable after LOCK_SECONDS, or DeadlineExceeded.
    """
    turn = _turns.get(engine)
    with nullcontext() if turn is None else turn.taken(LOCK_SECONDS), engine.begin() as connection:
        yield connection


def alone_if_first(connection: sa.Connection) -> None:
    """What comes next is all of the transaction that there is still to come: when nothing has been before it
    either, it needs no BEGIN and no COMMIT, for PostgreSQL executes a statement wholly or not at all."""
    driver_connection = connection.connection.driver_connection
    if isinstance(driver_connection, Connection) and driver_connection.is_idle:
        driver_connection.is_wanted = False


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for what changes nothing. On PostgreSQL it has no use for a transaction: by default each
    statement sees what is committed by then."""
    with engine.connect().execution_options(read_only=True) as connection, connection.begin():
        alone_if_first(connection)
        yield connection


def address_of(url: str) -> sa.URL:
    """The URL with the one PostgreSQL driver that leaves an eventlet process alive."""
    address = sa.make_url(url)
    return address.set(drivername="postgresql+psycopg2") if address.drivername == "postgresql" else address


def open_engine(url: str, pool_size: int = POOL_SIZE) -> sa.Engine:
    """An engine that connects at the first use. Every wait in it is bounded."""
    address = address_of(url)
    if address.get_backend_name() == "sqlite":
        engine = _open_sqlite(address, pool_size)
        _turns[engine] = Turn()
        return engine
    return _open_postgresql(address, pool_size)


def _open_postgresql(address: sa.URL, pool_size: int) -> sa.Engine:
    psycopg2.extensions.set_wait_callback(wait_in_the_hub)
    engine = sa.create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_use_lifo=True,  # the statements of the connection used last are prepared, its caches warm
        pool_reset_on_return=None,  # a connection that is closed has ended its transaction itself
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # an error in the log shows the statement, and nobody's data
        connect_args={
            "connection_factory": Connection,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s "
            f"-c timezone=UTC {_BY_INDEX}",
            # A server that vanished without a word is noticed by TCP, not waited for.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    # In place of a listener to "begin": where there is one, SQLAlchemy looks for listeners to all else, too.
    engine.dialect.do_begin = _begin  # type: ignore[method-assign, assignment]
    return engine


def _begin(connection: Any) -> None:
    connection.driver_connection.is_wanted = True


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _in_thread(call: Callable[..., T], *args: Any) -> T:
    """Make a blocking call in the thread pool, and leave only when it has ended.

    A greenlet that is killed or timed out while it waits must not hand its connection to the next
    one: sqlite3 objects that two threads use at once end the process.
    """
    thread = eventlet.spawn(tpool.execute, call, *args)
    interruption: BaseException | None = None
    while not thread.dead:
        try:
            thread.wait()
        except BaseException as error:
            if thread.dead:
                break
            interruption = error
    if interruption is not None:
        raise interruption
    result: T = thread.wait()
    return result


class _Cursor(sqlite3.Cursor):
    def execute(self, *args: Any) -> Any:
        return _in_thread(super().execute, *args)

    def executemany(self, *args: Any) -> Any:
        return _in_thread(super().executemany, *args)


class _Connection(sqlite3.Connection):
    _milliseconds = LOCK_SECONDS * 1000

    def wait_for_locks(self, seconds: float) -> None:
        """So long from now on. It reads no file, so that no thread is needed for it."""
        milliseconds = int(seconds * 1000)
        if milliseconds != self._milliseconds:
            sqlite3.Cursor(self).execute(f"PRAGMA busy_timeout={milliseconds}").close()
            self._milliseconds = milliseconds

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        _in_thread(super().commit)

    def rollback(self) -> None:
        _in_thread(super().rollback)


def _open_sqlite(address: sa.URL, pool_size: int) -> sa.Engine:
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,
        pool_timeout=CONNECT_SECONDS,
        connect_args={"timeout": LOCK_SECONDS, "factory": _Connection, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late: see `begin`
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads and then writes can't wait for another writer, it fails at once;
        # one that says from the start that it will write waits its turn.
        read_only = connection.get_execution_options().get("read_only")
        driver_connection: Any = connection.connection.driver_connection
        driver_connection.wait_for_locks(deadline.left(LOCK_SECONDS))
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
