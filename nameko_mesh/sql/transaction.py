"""Transactions for commands, and the dependency that injects them.

    with store.transaction() as tx:
        ...            # reads and writes; tx.publish(...) for the events
    # committed here, and the outbox relay has been woken

The caller of the command commits, inside the entrypoint: Nameko replies and acks *before*
`worker_result`, so a commit there could fail after the caller was told that it worked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Refused, Unavailable
from nameko_mesh.events.schema import Envelope, Event, sealed, timestamp
from nameko_mesh.outbox import insertion as outgoing
from nameko_mesh.outbox.handoff import Handoff
from nameko_mesh.outbox.insertion import OutboxRow
from nameko_mesh.sql import tables
from nameko_mesh.sql.engine import autocommit_single_statement, reading, writing
from nameko_mesh.sql.retry import is_conflict
from nameko_mesh.sql.write_batch import StaleWrite, WriteBatch

log = logging.getLogger(__name__)

LONGEST_COMMAND_ID = 255


class Transaction:
    """What any service may do in a transaction; each adds the reads and writes of its own tables.

    What is given to `writes`, and the events, leave together at the end.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.writes = WriteBatch()
        self.claimant: str | None = None
        """Whose relay takes the events of this transaction, when somebody's."""
        self._events: list[Envelope] = []
        self.claimed: list[OutboxRow] = []
        """Bundles of events that were written and claimed."""
        self.left_behind = False
        """Others were written, which a relay has to look for."""
        self.is_claiming = False
        """Events may have been written and claimed, whatever is known of it."""

    def now(self) -> datetime:
        """The database's clock, the one that all instances of a service share."""
        if self.connection.dialect.name == "sqlite":
            text = self.connection.scalar(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"))
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        moment: datetime = self.connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def publish(self, events: Iterable[tuple[Event, int]]) -> None:
        """Put events, each with the version of its aggregate, into the outbox."""
        self._events += sealed(events, timestamp(datetime.now(UTC)))

    @property
    def has_kept(self) -> bool:
        """Whether there is anything to flush."""
        return bool(self.writes or self._events)

    def flush(self, *, last: bool = False) -> None:
        """Send what has been kept; with `last` nothing comes after it.

        Raises StaleWrite, and what the database says to it, such as IntegrityError.
        """
        bundles = outgoing.bundled(self._events)
        self._events.clear()

        def note(claimed: list[OutboxRow]) -> None:
            self.claimed += claimed
            self.left_behind = self.left_behind or len(claimed) < len(bundles)

        if bundles:
            self.writes.add(outgoing.insert(bundles, self.claimant, note))
            claims = self.claimant is not None and self.connection.dialect.name == "postgresql"
            self.is_claiming = self.is_claiming or claims
        if self.writes:
            if last:
                autocommit_single_statement(self.connection)
            self.writes.send(self.connection)

    def is_new(self, consumer: str, event_id: str) -> bool:
        """Whether this consumer meets the event for the first time; notes that it has."""
        row = {"consumer": consumer, "event_id": event_id, "received_at": datetime.now(UTC)}
        insert = insert_ignoring_conflicts(self.connection, tables.inbox)
        return bool(self.connection.execute(insert, row).rowcount)

    def once(
        self, command_id: str | None, command: tuple[Any, ...], execute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Execute a command, or repeat the first answer when its id has been executed before.

        `command` is its name and arguments: an id that comes with another one is refused. A command
        without an id is executed each time. Two executions at once of one id are settled by the
        unique key: the second fails with IntegrityError and is tried again (`settled`), when it
        finds the answer of the first.
        """
        if command_id is None:
            return execute()
        _check_command_id(command_id)
        fingerprint = hashlib.sha256(json.dumps(command, default=repr).encode()).hexdigest()
        known = sa.select(tables.commands).where(tables.commands.c.command_id == command_id)
        before = self.connection.execute(known).one_or_none()
        if before is not None:
            if before.fingerprint != fingerprint:
                message = "command_id: it was used for another command"
                raise Refused("idempotency-key-reused", message, "command_id")
            return dict(before.answer)
        answer = execute()
        row = {"command_id": command_id, "fingerprint": fingerprint, "answer": answer}
        self.connection.execute(tables.commands.insert(), {**row, "executed_at": datetime.now(UTC)})
        return answer


def _check_command_id(value: Any) -> None:
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if not is_text or not 1 <= len(value) <= LONGEST_COMMAND_ID:
        message = f"command_id: expected 1 to {LONGEST_COMMAND_ID} printable ASCII characters"
        raise Refused("validation-failed", message, "command_id")


def insert_ignoring_conflicts(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that leaves a row alone which is there already."""
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


T = TypeVar("T", bound=Transaction)


class Store(Generic[T]):
    """Opens transactions of one service over one engine."""

    transaction_cls: Callable[[sa.Connection], T]

    def __init__(self, engine: sa.Engine, handoff: Handoff | None = None) -> None:
        self._engine = engine
        self._handoff = handoff or Handoff()

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[T]:
        """Commits at the end, rolls back on an exception.

        Raises Unavailable when the database can't be reached or does not answer in time, and
        DeadlineExceeded when nobody waits for it any longer.
        """
        if deadline.expired():
            raise DeadlineExceeded("there was no time left to ask the database")
        tx: T | None = None
        is_committed = False
        try:
            with reading(self._engine) if read_only else writing(self._engine) as connection:
                tx = self.transaction_cls(connection)
                tx.claimant = self._handoff.claimant if self._handoff.has_room else None
                yield tx
                tx.flush(last=True)
            is_committed = True
        except (exc.DBAPIError, exc.TimeoutError, StaleWrite) as error:
            if tx is not None and _is_undone(error):
                tx.is_claiming = False
            if is_conflict(error) or not _is_away(error):
                raise
            if deadline.expired():
                raise DeadlineExceeded("the database did not answer in time") from error
            log.warning("the database does not answer: %s", error)
            raise Unavailable("the database does not answer") from error
        finally:  # the answer to a COMMIT may be lost, and the commit not
            if (
                tx is not None
                and tx.is_claiming
                and not is_committed
                and tx.claimant == self._handoff.claimant
            ):
                self._handoff.outcome_unknown()
        if tx.claimed or tx.left_behind:
            self._handoff.offer(tx.claimed, tx.claimant, others=tx.left_behind)


def _is_undone(error: BaseException) -> bool:
    """Whether nothing was committed, for certain: the server says so itself, and not that it goes away."""
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    return isinstance(error, StaleWrite) or (code is not None and not code.startswith(("08", "57P")))


def _is_away(error: BaseException) -> bool:
    """Whether it is a matter of time: SQLite has the same exception for a lock and for a missing table."""
    if not isinstance(error, exc.OperationalError | exc.TimeoutError | exc.InterfaceError):
        return False
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
