"""`mycelium`: the one command line. What make's targets do is done here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from mycelium.cli.backlog import outbox, sagas
from mycelium.cli.dlq import dlq
from mycelium.cli.services import services
from mycelium.runner.supervisor import processes, restarts
from mycelium.state import ROOT, AlreadyRunning, State

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(dlq, name="dlq")
app.command()(outbox)
app.command()(sagas)
app.command()(services)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Scale = Annotated[str, typer.Option(help="Instances by service, such as products=2,orders=2.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="The gateway's port; by default 8000, or a free one.")
]
Management = Annotated[bool, typer.Option(help="With RabbitMQ's management pages.")]


class Database(StrEnum):
    """The private databases of a mesh."""

    sqlite = "sqlite"
    postgresql = "postgresql"


Db = Annotated[
    Database | None, typer.Option(help="The private databases: sqlite, unless DATABASE_URL names others.")
]


@app.command()
def run(scale: Scale = "", port: Port = None, management: Management = False, db: Db = None) -> None:
    """Start everything, place one order, and keep running until Ctrl-C."""
    _run(scale, port, management, db, stay=True)


@app.command()
def demo(scale: Scale = "", port: Port = None, management: Management = False, db: Db = None) -> None:
    """Start everything, place one order, stop everything; exit 0 when the order was confirmed."""
    _run(scale, port, management, db, stay=False)


def _run(scale: str, port: int | None, management: bool, db: Database | None, *, stay: bool) -> None:
    from mycelium.runner.first_order import OrderFailed
    from mycelium.runner.process_plan import BadScale, parse_scale
    from mycelium.runner.run import Interrupt, running
    from mycelium.servers import ServerError

    started = time.monotonic()

    def say(text: str) -> None:
        out.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {text}")

    interrupt = Interrupt()
    try:
        with running(State(), parse_scale(scale), port, say, management=management, db=db) as mesh:
            order, token, refilled = mesh.first_order()
            if refilled:
                say("the laptops were sold out: the admin has restocked them")
            say("ready")
            _show_order(order)
            if stay:
                _show_places(mesh.gateway_url, mesh.environment["METRICS_URL"], token)
                out.print("\nCtrl-C stops it all.")
                interrupt.wait(is_over=_Watcher(mesh, say))
    except KeyboardInterrupt:
        err.print("interrupted: everything is stopped")
        raise typer.Exit(130) from None
    except AlreadyRunning as error:
        err.print(f"a mesh is running already (process {error}): mycelium ps shows it")
        raise typer.Exit(1) from None
    except (BadScale, OrderFailed, ServerError, TimeoutError) as error:
        err.print(f"[red]{error}[/red]", soft_wrap=True)
        raise typer.Exit(1) from None


class _Watcher:
    """Tells what was started again, until the supervisor itself has ended."""

    def __init__(self, mesh: Any, say: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._say = say
        self._seen = restarts(mesh.state)

    def __call__(self) -> bool:
        now = restarts(self._mesh.state)
        for name, times in now.items():
            if times > max(0, self._seen[name]):
                self._say(f"{name} had ended and is started again")
        self._seen = now
        return bool(self._mesh.supervisor.wait(0))


def _show_order(order: dict[str, Any]) -> None:
    out.print("\nThe first order:\n")
    out.print_json(json.dumps(order))


def _show_places(url: str, metrics_url: str, token: str) -> None:
    places = Table(show_header=False, box=None, pad_edge=False)
    places.add_row("gateway", url)
    places.add_row("its documentation", f"{url}/docs")
    places.add_row("its metrics", metrics_url)
    places.add_row("logs", str(State().logs))
    places.add_row("settings for a shell", "set -a; . .mycelium/env; set +a")
    out.print(places)
    out.print("\nThe next one is yours:\n")
    # Printed plainly, so that a narrow terminal does not break what is to be copied.
    print(
        f"curl -s {url}/orders -H 'Authorization: Bearer {token}' "
        """-H 'Content-Type: application/json' -d '{"product_id": "P002", "quantity": 1}'""",
        flush=True,
    )


@app.command()
def ps(as_json: AsJson = False) -> None:
    """List every process of the running mesh."""
    state = State()
    running = processes(state)
    if running is None:
        err.print("no mesh is running here: make run starts one")
        raise typer.Exit(1)
    members = {member.name: member for member in state.members()}
    again = restarts(state)
    rows = []
    for process in running:
        member = members.get(process["name"])
        rows.append(
            {
                "name": process["name"],
                "service": member.service if member else process["name"],
                "pid": process["pid"] or None,
                "address": member.address if member else None,
                "state": process["statename"].lower(),
                "restarts": max(0, again[process["name"]]),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(*(Column(name, overflow="fold") for name in rows[0]), box=None)
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    out.print(table)


@app.command()
def migrate(database_url: Annotated[str, typer.Argument(envvar="DATABASE_URL")]) -> None:
    """Bring the database of every service to the newest version."""
    from mycelium.seed import migrate as migrate_all

    migrate_all(database_url)


@app.command()
def seed(
    database_url: Annotated[str, typer.Argument(envvar="DATABASE_URL")],
    alice: Annotated[str, typer.Option(envvar="ALICE_PASSWORD")],
    bob: Annotated[str, typer.Option(envvar="BOB_PASSWORD")],
    admin: Annotated[str, typer.Option(envvar="ADMIN_PASSWORD")],
) -> None:
    """Add the two products and three users of the tutorial. Not for production."""
    from mycelium.seed import seed as seed_all

    seed_all(database_url, {"ALICE_PASSWORD": alice, "BOB_PASSWORD": bob, "ADMIN_PASSWORD": admin})


@app.command()
def new_migration(service: str, message: str) -> None:
    """Write the next migration of a service, from what its tables.py has and its migrations lack."""
    import tempfile

    from nameko_mesh.sql import migrations

    folder = ROOT / "services" / service / "migrations"
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{Path(scratch) / 'scratch.db'}"
        migrations.upgrade(url, folder)
        migrations.new(url, folder, message)
