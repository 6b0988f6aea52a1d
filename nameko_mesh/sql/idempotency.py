"""Commands and events that take effect once, however often they arrive.

An inbox row or a command row is inserted under a unique key, in the transaction of the effect itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from nameko_mesh.errors import Refused
from nameko_mesh.sql.tables import commands, inbox, insert_ignoring_conflicts

MAX_COMMAND_ID_LENGTH = 255


def is_new(connection: sa.Connection, consumer: str, event_id: str) -> bool:
    """Record that `consumer` handles the event. Return False if this is recorded already."""
    row = {"consumer": consumer, "event_id": event_id, "received_at": datetime.now(UTC)}
    insert = insert_ignoring_conflicts(connection, inbox)
    return bool(connection.execute(insert, row).rowcount)


def once(
    connection: sa.Connection,
    command_id: str | None,
    command: tuple[Any, ...],
    execute: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Execute a command, or return the stored answer if a command with this id was executed before.

    `command` is the name and the arguments. Raises Refused when the id was used for another command. A
    command without an id is executed each time. When an id is executed twice at once, the unique key makes
    the second execution fail with IntegrityError. `retry_on_conflict` then runs the command again, which
    returns the stored answer.
    """
    if command_id is None:
        return execute()
    _check_command_id(command_id)
    fingerprint = hashlib.sha256(json.dumps(command, default=repr).encode()).hexdigest()
    query = sa.select(commands).where(commands.c.command_id == command_id)
    previous = connection.execute(query).one_or_none()
    if previous is not None:
        if previous.fingerprint != fingerprint:
            message = "command_id: it was used for another command"
            raise Refused("idempotency-key-reused", message, "command_id")
        return dict(previous.answer)
    answer = execute()
    row = {"command_id": command_id, "fingerprint": fingerprint, "answer": answer}
    connection.execute(commands.insert(), {**row, "executed_at": datetime.now(UTC)})
    return answer


def _check_command_id(command_id: Any) -> None:
    is_text = isinstance(command_id, str) and command_id.isascii() and command_id.isprintable()
    if not is_text or not 1 <= len(command_id) <= MAX_COMMAND_ID_LENGTH:
        message = f"command_id: expected 1 to {MAX_COMMAND_ID_LENGTH} printable ASCII characters"
        raise Refused("validation-failed", message, "command_id")
