"""Makes psycopg2 wait in eventlet's hub, so that other green threads run, and bounds each wait.

At the current deadline (nameko_mesh.deadline), the server gets a request to cancel the statement.
The statement then fails as after the server's own `statement_timeout`. Setting that timeout in each
transaction would cost every transaction a round trip.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import eventlet
import psycopg2.extensions
import sqlalchemy as sa
from eventlet.greenthread import GreenThread
from eventlet.hubs import trampoline

from nameko_mesh import deadline

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 5
CANCEL_TIMEOUT_SECONDS = 1
"""Limit for reaching the server that is to cancel a statement, and for its reaction. After that the
connection is closed."""


class _Cursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, values: Any = None) -> None:
        connection = self.connection
        # `is_idle` is read each time, because a statement that can't be parsed takes its BEGIN along.
        if isinstance(connection, Connection) and connection.begin_pending and connection.is_idle:
            query = f"BEGIN; {query}"
        super().execute(query, values)


class Connection(psycopg2.extensions.connection):
    """Sends BEGIN together with the first statement of a transaction. psycopg2 sends it alone and waits.

    Gain: a transaction of one read takes 210 µs in place of 251 (`python -m bench.tricks.sql`). Delete it
    when psycopg2 or its successor pipelines statements. Example: `SELECT 1` is sent as `BEGIN; SELECT 1`.

    A commit is never cancelled, because its outcome would be unknown.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = _Cursor
        self.autocommit = True  # psycopg2 then begins no transaction itself
        self.begin_pending = False
        """True from the begin to the end of a transaction. Its first statement takes BEGIN along."""
        self.is_ending = False

    @property
    def is_idle(self) -> bool:
        return bool(self.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE)

    def commit(self) -> None:
        self.is_ending = True
        try:
            self._end("COMMIT")
        finally:
            self.is_ending = False

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, command: str) -> None:
        self.begin_pending = False
        if not self.is_idle:
            with self.cursor() as cursor:
                cursor.execute(command)


def fetch(connection: sa.Connection, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """Execute a statement and return its rows, with SQLAlchemy's errors.

    SQLAlchemy's result objects cost this process more CPU than the statement. They give access by name,
    convert types and stream. `sql.reads` states the gain.
    """
    driver_connection: Any = connection.connection.driver_connection
    try:
        with driver_connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()  # type: ignore[no-any-return]
    except psycopg2.Error as error:
        raise _as_sqlalchemy_error(connection, statement, error) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # killed while it waited: the answer is still to come
            connection.invalidate(error)
        raise


def _as_sqlalchemy_error(connection: sa.Connection, statement: str, error: psycopg2.Error) -> Exception:
    driver_connection: Any = connection.connection.driver_connection
    is_gone = connection.dialect.is_disconnect(error, driver_connection, None)
    if is_gone:  # SQLAlchemy has to notice it too, because it then renews the pool's other connections
        with suppress(sa.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1")
    return sa.exc.DBAPIError.instance(  # type: ignore[no-any-return]
        statement,
        None,
        error,
        psycopg2.Error,
        hide_parameters=True,
        connection_invalidated=is_gone,
        dialect=connection.dialect,
    )


class _NoAnswer(psycopg2.OperationalError):
    pass


def wait_in_hub(connection: psycopg2.extensions.connection) -> None:
    """Wait for the server in eventlet's hub, as psycopg2's wait callback for all connections of the process.

    libpq does not apply its own timeout for connecting when a wait callback is set.
    Raises OperationalError when the server does not answer. psycopg2 then closes the connection.
    """
    is_new = connection.status == psycopg2.extensions.STATUS_SETUP
    limit = CONNECT_TIMEOUT_SECONDS if is_new else STATEMENT_TIMEOUT_SECONDS + LOCK_TIMEOUT_SECONDS
    can_cancel = isinstance(connection, Connection) and not (is_new or connection.is_ending)
    cancelling: GreenThread | None = None
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            if cancelling is not None:
                cancelling.wait()  # a late request would cancel the next statement of this connection
            return
        seconds = deadline.remaining(limit) if can_cancel else limit
        try:
            trampoline(
                connection.fileno(),
                read=state == psycopg2.extensions.POLL_READ,
                write=state == psycopg2.extensions.POLL_WRITE,
                timeout=seconds,
                timeout_exc=_NoAnswer(f"no answer from the database in {seconds:g} s"),
            )
        except _NoAnswer:
            if seconds == limit:
                raise
            limit, can_cancel = CANCEL_TIMEOUT_SECONDS, False
            cancelling = eventlet.spawn(_cancel, connection)


def _cancel(connection: psycopg2.extensions.connection) -> None:
    """Cancel the running statement through a connection of its own, in a green thread without a deadline.

    libpq's PQcancel blocks, and psycopg2 holds the interpreter's lock meanwhile. So a frozen server would
    freeze this process.
    """
    info = connection.info
    with eventlet.Timeout(CANCEL_TIMEOUT_SECONDS, False):
        try:
            other = psycopg2.connect(**{**info.dsn_parameters, "password": info.password})
            try:
                other.autocommit = True
                with other.cursor() as cursor:
                    cursor.execute("SELECT pg_cancel_backend(%s)", (info.backend_pid,))
            finally:
                other.close()
        except psycopg2.Error as error:
            log.warning("could not ask the database to cancel a statement: %s", error)
