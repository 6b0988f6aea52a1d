"""Engines of SQLite that let other green threads run."""

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
from nameko_mesh.sql.json_codec import _to_json
from nameko_mesh.sql.psycopg_eventlet import (
    CONNECT_SECONDS,
    LOCK_SECONDS,
)

T = TypeVar("T")


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
        driver_connection.wait_for_locks(deadline.remaining(LOCK_SECONDS))
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
