"""Print what commands return, and turn errors into one line and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

T = TypeVar("T")

WIDTH_WITHOUT_TERMINAL = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
err = Console(stderr=True, highlight=False)


def show(
    rows: list[dict[str, Any]], as_json: bool, *, if_empty: str = "nothing waits", missing: str = ""
) -> None:
    """Print rows as JSON or as a table. A table shows `missing` in place of None."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        out.print(if_empty)
        return
    table = Table(*(Column(name.replace("_", " "), overflow="fold") for name in rows[0]), box=None)
    for row in rows:
        table.add_row(*(missing if value is None else str(value) for value in row.values()))
    out.print(table)


def fail(reason: str, code: int = 1) -> NoReturn:
    """Print the reason in red on stderr and exit."""
    err.print(reason, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code) from None


def exit_on_broker_error(action: Callable[[], T]) -> T:
    """Return what `action` returns. Exit with 1 when the broker does not answer."""
    from amqp.exceptions import AMQPError
    from kombu.exceptions import OperationalError

    from mycelium.diagnostics.dead_letters import UnknownQueue

    try:
        return action()
    except UnknownQueue as error:
        fail(str(error))
    except (OSError, AMQPError, OperationalError) as error:
        fail(f"the broker does not answer: {error}")


def exit_on_database_error(action: Callable[[], T]) -> T:
    """Return what `action` returns. Exit with 1 when a database does not answer or cannot be migrated."""
    from alembic.util import CommandError
    from eventlet.debug import hub_exceptions
    from sqlalchemy.exc import SQLAlchemyError

    from mycelium.runner.process_plan import InvalidDatabaseUrl

    hub_exceptions(False)  # or eventlet prints the traceback of an error in SQLite's thread
    try:
        return action()
    except InvalidDatabaseUrl as error:
        fail(str(error))
    except CommandError as error:
        fail(f"the database cannot be migrated: {error}")
    except (OSError, SQLAlchemyError) as error:
        fail(f"the database does not answer: {str(error).splitlines()[0]}")
