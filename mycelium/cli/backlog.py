"""Commands that show events and orders which wait."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mycelium.cli.dlq import DatabaseUrl, _asked
from mycelium.cli.output import AsJson, err, show
from mycelium.state import State


def outbox(database_url: DatabaseUrl = "", as_json: AsJson = False) -> None:
    """How many events each service has not sent yet, and since when."""
    from mycelium.diagnostics.backlog import outbox_lags

    show([asdict(lag) for lag in _asked(lambda: outbox_lags(_database(database_url)))], as_json)


def sagas(limit: int = 50, database_url: DatabaseUrl = "", as_json: AsJson = False) -> None:
    """The orders of which products has not decided yet, the oldest first."""
    from mycelium.diagnostics.backlog import unsettled_orders

    orders = _asked(lambda: unsettled_orders(_database(database_url), limit))
    show([asdict(order) for order in orders], as_json)


def _database(database_url: str) -> str:
    url = database_url or State().environment().get("DATABASE_URL")
    if not url:
        err.print("no mesh is running here: set DATABASE_URL to its databases")
        raise typer.Exit(1)
    return url
