"""psycopg2 among green threads: others go on while one waits, and nobody waits longer than is of use.

A statement ends with the budget of the work that it is for (nameko_mesh.deadline): then the server is told to
cancel it, and it fails as it would by the server's own `statement_timeout`. To set that in each
transaction would cost every one of them what this costs those that are too late.
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

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 10
LOCK_SECONDS = 5
CANCEL_SECONDS = 1
"""How long it may take to reach a server that is to cancel, and how long the server; then it is left alone,
and the connection is closed."""


class _Cursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, values: Any = None) -> None:
        connection = self.connection
        # Asked each time: a statement that can't even be parsed takes its BEGIN along.
        if isinstance(connection, Connection) and connection.is_wanted and connection.is_idle:
            query = f"BEGIN; {query}"
        super().execute(query, values)


class Connection(psycopg2.extensions.connection):
    """BEGIN travels with the first statement of a transaction: psycopg2 sends it alone and waits.

    A commit is let end: whether a cancelled one has taken effect, nobody would know.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = _Cursor
        self.autocommit = True  # psycopg2's word for that it begins nothing itself
        self.is_wanted = False
        """Whether what follows is to be one transaction, which its first statement begins."""
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

    def _end(self, how: str) -> None:
        self.is_wanted = False
        if not self.is_idle:
            with self.cursor() as cursor:
                cursor.execute(how)


def fetch(connection: sa.Connection, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The rows of a statement. SQLAlchemy's own way to them costs this process more than the statement does:
    it makes ready for columns by name, types and results of any size. Errors are its own here, too.
    """
    driver_connection: Any = connection.connection.driver_connection
    try:
        with driver_connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()  # type: ignore[no-any-return]
    except psycopg2.Error as error:
        is_gone = connection.dialect.is_disconnect(error, driver_connection, None)
        if is_gone:  # SQLAlchemy is to find that out, too: it knows what to do with the others of the pool
            with suppress(sa.exc.DBAPIError):
                connection.exec_driver_sql("SELECT 1")
        raise sa.exc.DBAPIError.instance(
            statement,
            None,
            error,
            psycopg2.Error,
            hide_parameters=True,
            connection_invalidated=is_gone,
            dialect=connection.dialect,
        ) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # killed while it waited: the answer is still to come
            connection.invalidate(error)
        raise


class _NoAnswer(psycopg2.OperationalError):
    pass


def wait_in_the_hub(connection: psycopg2.extensions.connection) -> None:
    """psycopg2's wait callback, for all connections of the process, of which some may be of another kind.

    libpq's own limit of a connect does not hold when the waiting is ours.
    Raises OperationalError when there is no answer; psycopg2 then closes the connection.
    """
    is_new = connection.status == psycopg2.extensions.STATUS_SETUP
    longest = CONNECT_SECONDS if is_new else STATEMENT_SECONDS + LOCK_SECONDS
    can_cancel = isinstance(connection, Connection) and not (is_new or connection.is_ending)
    cancelling: GreenThread | None = None
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            if cancelling is not None:
                cancelling.wait()  # or it might hit the next statement of this connection
            return
        seconds = deadline.remaining(longest) if can_cancel else longest
        try:
            trampoline(
                connection.fileno(),
                read=state == psycopg2.extensions.POLL_READ,
                write=state == psycopg2.extensions.POLL_WRITE,
                timeout=seconds,
                timeout_exc=_NoAnswer(f"no answer from the database in {seconds:g} s"),
            )
        except _NoAnswer:
            if seconds == longest:
                raise
            longest, can_cancel = CANCEL_SECONDS, False
            cancelling = eventlet.spawn(_cancel, connection)


def _cancel(connection: psycopg2.extensions.connection) -> None:
    """By a connection of its own, in a green thread without a budget. libpq's PQcancel is no way: it blocks,
    psycopg2 holds the interpreter's lock meanwhile, and a server that is frozen would freeze this process."""
    told = connection.info
    with eventlet.Timeout(CANCEL_SECONDS, False):
        try:
            other = psycopg2.connect(**{**told.dsn_parameters, "password": told.password})
            try:
                other.autocommit = True
                with other.cursor() as cursor:
                    cursor.execute("SELECT pg_cancel_backend(%s)", (told.backend_pid,))
            finally:
                other.close()
        except psycopg2.Error as error:
            log.warning("the database could not be told to cancel a statement: %s", error)
