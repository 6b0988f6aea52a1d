"""Transactions of a service's commands.

    with store.transaction() as tx:
        ...            # reads, and writes that are kept in `tx.writes`
    # committed here

The command commits, inside the entrypoint. Nameko replies and acks *before* `worker_result`. A commit there
could fail after the caller got a successful reply.

The end of a transaction has one of three outcomes (`_State`):

| outcome | reason | callbacks | the block raises |
|---|---|---|---|
| committed | the database confirmed it | `after_commit` | nothing |
| rolled back | the block raised, or the server reported an error | `on_rollback` | that error |
| unknown | no answer to the last statement or COMMIT | `on_unknown_outcome` | Unavailable |

After an unknown outcome the command may have taken effect. Callers repeat it under the same command id
(`Transaction.once`), and handlers under the same event id (`Transaction.is_new`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.sql import idempotency
from nameko_mesh.sql.db_clock import clock
from nameko_mesh.sql.engine import autocommit_single_statement, reading, writing
from nameko_mesh.sql.retry import is_conflict
from nameko_mesh.sql.statement import StaleWrite
from nameko_mesh.sql.write_batch import WriteBatch

log = logging.getLogger(__name__)

Callback = Callable[[], None]


class _State(Enum):
    OPEN = auto()
    """Nothing was sent that could have committed: leaving the transaction rolls it back."""
    COMMITTING = auto()
    """The last statement or COMMIT was sent, and its answer is not known."""
    COMMITTED = auto()
    ROLLED_BACK = auto()


class Transaction:
    """The part of a transaction that every service shares. Subclasses add reads and writes of their tables.

    `writes` collects statements and sends them together before the commit.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.writes = WriteBatch()
        self._state = _State.OPEN
        self._before_commit: list[Callback] = []
        self._after_commit: list[Callback] = []
        self._on_unknown_outcome: list[Callback] = []
        self._on_rollback: list[Callback] = []

    def before_commit(self, callback: Callback) -> None:
        """Call `callback` once, right before the kept writes are sent. It may add writes."""
        self._before_commit.append(callback)

    def after_commit(self, callback: Callback) -> None:
        """Call `callback` when the database has confirmed the commit."""
        self._after_commit.append(callback)

    def on_unknown_outcome(self, callback: Callback) -> None:
        """Call `callback` when the answer to the commit is lost, so that the commit may have taken effect."""
        self._on_unknown_outcome.append(callback)

    def on_rollback(self, callback: Callback) -> None:
        """Call `callback` when the transaction has taken no effect."""
        self._on_rollback.append(callback)

    def now(self) -> datetime:
        """Return the time by the database's clock, which all instances of a service share."""
        query = sa.select(clock(self.connection.dialect.name))
        now: datetime | str = self.connection.execute(query).scalar_one()
        if isinstance(now, str):  # SQLite has no type for times
            return datetime.fromisoformat(now).replace(tzinfo=UTC)
        return now.astimezone(UTC)

    @property
    def has_unsent_writes(self) -> bool:
        return bool(self.writes or self._before_commit)

    def flush(self) -> None:
        """Send the writes kept so far, so that later statements of this transaction see them.

        Raises StaleWrite, and errors of the database such as IntegrityError.
        """
        self._run_before_commit()
        if self.writes:
            self.writes.send(self.connection)

    def is_new(self, consumer: str, event_id: str) -> bool:
        """Record that `consumer` handles the event. Return False if this is recorded already."""
        return idempotency.is_new(self.connection, consumer, event_id)

    def once(
        self, command_id: str | None, command: tuple[Any, ...], execute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Execute a command, or return the stored answer if its id was executed before (sql.idempotency)."""
        return idempotency.once(self.connection, command_id, command, execute)

    def _flush_last(self) -> None:
        """Send the remaining writes. From here on, a lost answer leaves the outcome unknown.

        The writes are one statement. If it is the first of the transaction, it commits itself.
        """
        self._run_before_commit()
        self._state = _State.COMMITTING
        if self.writes:
            autocommit_single_statement(self.connection)
            self.writes.send(self.connection)

    def _run_before_commit(self) -> None:
        callbacks, self._before_commit = self._before_commit, []
        for callback in callbacks:
            callback()

    def _run_callbacks(self) -> None:
        callbacks = {
            _State.COMMITTED: self._after_commit,
            _State.COMMITTING: self._on_unknown_outcome,
        }.get(self._state, self._on_rollback)
        for callback in callbacks:
            callback()


T = TypeVar("T", bound=Transaction)


class Store(Generic[T]):
    """Opens transactions of one service on one engine."""

    transaction_cls: Callable[[sa.Connection], T]

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def begin(self, connection: sa.Connection) -> T:
        """Return the transaction object for a connection. Subclasses may prepare it."""
        return self.transaction_cls(connection)

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[T]:
        """Commit at the end of the block, or roll back if the block raises.

        Raises Unavailable when the database can't be reached or does not answer in time; then the outcome may
        be unknown. Raises DeadlineExceeded when the current deadline has passed, StaleWrite, and
        other errors of the database.
        """
        if deadline.expired():
            raise DeadlineExceeded("no time is left to query the database")
        tx: T | None = None
        try:
            with reading(self._engine) if read_only else writing(self._engine) as connection:
                tx = self.begin(connection)
                yield tx
                tx._flush_last()
            tx._state = _State.COMMITTED
        except (exc.DBAPIError, exc.TimeoutError, StaleWrite) as error:
            if tx is not None and _is_rolled_back(error):
                tx._state = _State.ROLLED_BACK
            if is_conflict(error) or not _is_unavailable(error):
                raise
            if deadline.expired():
                raise DeadlineExceeded("the database did not answer in time") from error
            log.warning("the database does not answer: %s", error)
            raise Unavailable("the database does not answer") from error
        finally:
            if tx is not None:
                tx._run_callbacks()


def _is_rolled_back(error: BaseException) -> bool:
    """Return True if the server itself reported the failure. A server that shuts down may have committed."""
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if code is None:
        return isinstance(error, StaleWrite | exc.IntegrityError)
    return not code.startswith(("08", "57P"))


def _is_unavailable(error: BaseException) -> bool:
    """Return True if waiting may help. SQLite raises OperationalError for a lock and for a missing table."""
    if not isinstance(error, exc.OperationalError | exc.TimeoutError | exc.InterfaceError):
        return False
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
