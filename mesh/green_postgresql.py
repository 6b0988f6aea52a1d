"""psycopg2 among green threads: others go on while one waits, and nobody waits longer than is of use.

A statement ends with the budget of the work that it is for (mesh.budget): then the server is told to
cancel it, and it fails as it would by the server's own `statement_timeout`. To set that in each
transaction would cost every one of them what this costs those that are too late.
"""

from __future__ import annotations

import psycopg2.extensions
from eventlet import Timeout, tpool
from eventlet.hubs import trampoline

from mesh import budget

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 10
LOCK_SECONDS = 5
CANCEL_SECONDS = 1
"""How long it may take to reach a server that is to cancel, and how long the server; then it is left alone,
and the connection is closed."""


class Connection(psycopg2.extensions.connection):
    """A commit is let end: whether a cancelled one has taken effect, nobody would know."""

    is_ending = False

    def commit(self) -> None:
        self.is_ending = True
        try:
            super().commit()
        finally:
            self.is_ending = False


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
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        seconds = budget.left(longest) if can_cancel else longest
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
            with Timeout(CANCEL_SECONDS, _NoAnswer("the database could not be told to cancel a statement")):
                tpool.execute(connection.cancel)  # it opens a connection of its own, and blocks meanwhile
