"""`mycelium outbox` and `mycelium sagas`: events that are not sent and orders that are not settled."""

from __future__ import annotations

from dataclasses import asdict

from mycelium.cli.options import AsJson, DatabaseUrl, setting_or_exit
from mycelium.cli.output import exit_on_database_error, show


def outbox(database_url: DatabaseUrl = "", as_json: AsJson = False) -> None:
    """Count each service's unsent events and show the age of the oldest."""
    from mycelium.diagnostics.backlog import outbox_lags

    lags = exit_on_database_error(lambda: outbox_lags(_database_url(database_url)))
    show([asdict(lag) for lag in lags], as_json)


def sagas(limit: int = 50, database_url: DatabaseUrl = "", as_json: AsJson = False) -> None:
    """List the orders that products has not decided yet, the oldest first."""
    from mycelium.diagnostics.backlog import unsettled_orders

    orders = exit_on_database_error(lambda: unsettled_orders(_database_url(database_url), limit))
    show([asdict(order) for order in orders], as_json)


def _database_url(database_url: str) -> str:
    return setting_or_exit(database_url, "DATABASE_URL", "its databases")
