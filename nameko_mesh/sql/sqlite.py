"""SQLite engines that let other green threads run while a call blocks.

sqlite3 blocks in C, so its calls run in eventlet's thread pool. Writers of a process queue in `sql.engine`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import eventlet
import orjson
import sqlalchemy as sa
from eventlet import tpool
from sqlalchemy.pool import QueuePool

from nameko_mesh import deadline
from nameko_mesh.sql.json_codec import to_json
from nameko_mesh.sql.psycopg_eventlet import CONNECT_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS

T = TypeVar("T")


def open_sqlite(address: sa.URL, pool_size: int) -> sa.Engine:
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        json_serializer=to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        connect_args={"timeout": LOCK_TIMEOUT_SECONDS, "factory": _Connection, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late: see `_begin`
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    """Take the write lock at the start of a writing transaction.

    A transaction that reads first and writes later can't wait for another writer: SQLite fails it at once.
    """
    read_only = connection.get_execution_options().get("read_only")
    driver_connection: Any = connection.connection.driver_connection
    driver_connection.set_lock_timeout(deadline.remaining(LOCK_TIMEOUT_SECONDS))
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def run_in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in the thread pool, and return only when it has ended.

    A green thread that is killed while it waits must not return its connection to the pool yet. If two
    threads use an sqlite3 object at once, the process crashes.
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
        return run_in_thread(super().execute, *args)

    def executemany(self, *args: Any) -> Any:
        return run_in_thread(super().executemany, *args)


class _Connection(sqlite3.Connection):
    _busy_timeout_ms = LOCK_TIMEOUT_SECONDS * 1000

    def set_lock_timeout(self, seconds: float) -> None:
        """Bound the wait for a lock from now on. The pragma reads no file, so it needs no thread."""
        milliseconds = int(seconds * 1000)
        if milliseconds != self._busy_timeout_ms:
            sqlite3.Cursor(self).execute(f"PRAGMA busy_timeout={milliseconds}").close()
            self._busy_timeout_ms = milliseconds

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        run_in_thread(super().commit)

    def rollback(self) -> None:
        run_in_thread(super().rollback)
