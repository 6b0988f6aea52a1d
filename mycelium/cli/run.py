"""`mycelium run` and `mycelium demo`: start the mesh, place one order, and say where everything is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mycelium.cli.output import err, fail, out
from mycelium.runner.supervisor import restarts
from mycelium.state import AlreadyRunning, State

if TYPE_CHECKING:
    from mycelium.runner.run import Running

Say = Callable[[str], None]
Scale = Annotated[str, typer.Option(help="Instances per service, such as products=2,orders=2.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="The gateway's port. Default: 8000, or a free port.")
]
Management = Annotated[bool, typer.Option(help="Start RabbitMQ's management pages.")]


class Database(StrEnum):
    """The kinds of private database that a mesh can run."""

    sqlite = "sqlite"
    postgresql = "postgresql"


Db = Annotated[
    Database | None, typer.Option(help="The private databases. Default: sqlite, unless DATABASE_URL is set.")
]


def run(scale: Scale = "", port: Port = None, management: Management = False, db: Db = None) -> None:
    """Start the mesh, place one order, and run until Ctrl-C."""
    with _reporting_errors():
        _run(scale, port, management, db, stay=True)


def demo(scale: Scale = "", port: Port = None, management: Management = False, db: Db = None) -> None:
    """Start the mesh, place one order, stop the mesh. Exits 0 if the order was confirmed."""
    with _reporting_errors():
        _run(scale, port, management, db, stay=False)


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Print an expected error in one line and exit: 130 after Ctrl-C, else 1."""
    from mycelium.runner.first_order import OrderFailed
    from mycelium.runner.process_plan import InvalidScale
    from mycelium.servers import ServerError

    try:
        yield
    except KeyboardInterrupt:
        err.print("interrupted: everything is stopped")
        raise typer.Exit(130) from None
    except AlreadyRunning as error:
        err.print(f"a mesh is running already (process {error}): mycelium ps shows it")
        raise typer.Exit(1) from None
    except (InvalidScale, OrderFailed, ServerError, TimeoutError) as error:
        fail(str(error))


def _run(scale: str, port: int | None, management: bool, db: Database | None, *, stay: bool) -> None:
    from mycelium.runner.process_plan import parse_scale
    from mycelium.runner.run import Interrupt, running

    say, interrupt = _stopwatch(), Interrupt()
    with running(State(), parse_scale(scale), port, say, management=management, db=db) as mesh:
        order, token, restocked = mesh.first_order()
        if restocked:
            say("the laptops were sold out: the admin has restocked them")
        say("ready")
        _show_order(order)
        if stay:
            _show_addresses(mesh.gateway_url, mesh.environment["METRICS_URL"], token)
            out.print("\nCtrl-C stops everything.")
            interrupt.wait(is_over=_RestartReporter(mesh, say))


def _stopwatch() -> Say:
    """Return a function that prints a line with the seconds since now before it."""
    started = time.monotonic()
    return lambda text: out.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {text}")


class _RestartReporter:
    """Reports restarted processes at each call. Returns True once the supervisor has ended."""

    def __init__(self, mesh: Running, say: Say) -> None:
        self._mesh = mesh
        self._say = say
        self._reported = restarts(mesh.state)

    def __call__(self) -> bool:
        counts = restarts(self._mesh.state)
        for name, count in counts.items():
            if count > max(0, self._reported[name]):
                self._say(f"{name} had ended and is started again")
        self._reported = counts
        return self._mesh.supervisor.wait(0)


def _show_order(order: dict[str, Any]) -> None:
    out.print("\nThe first order:\n")
    out.print_json(json.dumps(order))


def _show_addresses(url: str, metrics_url: str, token: str) -> None:
    addresses = Table(show_header=False, box=None, pad_edge=False)
    addresses.add_row("gateway", url)
    addresses.add_row("its documentation", f"{url}/docs")
    addresses.add_row("its metrics", metrics_url)
    addresses.add_row("logs", str(State().logs))
    addresses.add_row("settings for a shell", "set -a; . .mycelium/env; set +a")
    out.print(addresses)
    out.print("\nPlace the next order:\n")
    # print(), because rich would break the command at the terminal's width and it is there to be copied.
    print(
        f"curl -s {url}/orders -H 'Authorization: Bearer {token}' "
        """-H 'Content-Type: application/json' -d '{"product_id": "P002", "quantity": 1}'""",
        flush=True,
    )
