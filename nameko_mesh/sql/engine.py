"""Database engines that leave an eventlet process alive while a query waits.

psycopg2 yields to the hub through its wait callback. sqlite3 has no such thing: a lock held by
another process would freeze this one, so its blocking calls run in eventlet's thread pool.

Every wait ends at the deadline of the work in hand (nameko_mesh.deadline): on PostgreSQL any
statement, on SQLite the wait for a lock, which is all that takes long there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from nameko_mesh.fair_lock import FairLock
from nameko_mesh.sql.postgresql import _open_postgresql, address_of
from nameko_mesh.sql.psycopg_eventlet import (
    LOCK_SECONDS,
    Connection,
)
from nameko_mesh.sql.sqlite import _open_sqlite

POOL_SIZE = 10


_write_locks: WeakKeyDictionary[sa.Engine, FairLock] = WeakKeyDictionary()


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction that commits at the end: on SQLite one after the other, in the order of
    their coming.

    SQLite lets one write at a time, and those who wait for it look again now and then: whoever comes
    just then gets it, and another starves. Raises Unavailable after LOCK_SECONDS, or DeadlineExceeded.
    """
    lock = _write_locks.get(engine)
    with nullcontext() if lock is None else lock.held(LOCK_SECONDS), engine.begin() as connection:
        yield connection


def autocommit_single_statement(connection: sa.Connection) -> None:
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
        autocommit_single_statement(connection)
        yield connection


def open_engine(url: str, pool_size: int = POOL_SIZE) -> sa.Engine:
    """An engine that connects at the first use. Every wait in it is bounded."""
    address = address_of(url)
    if address.get_backend_name() == "sqlite":
        engine = _open_sqlite(address, pool_size)
        _write_locks[engine] = FairLock("the database")
        return engine
    return _open_postgresql(address, pool_size)
