"""The mesh as its users start it, with `mycelium run --db postgresql` and nothing switched off."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path

from amqp.exceptions import NotFound
from kombu import Connection, Queue

from bench import load
from bench.results import LATE
from bench.servers import CACHE
from bench.stacks import WrongBooks
from bench.stacks.shop import open_shop
from bench.stacks.stock import execute, rows
from mycelium.diagnostics.backlog import publishers
from mycelium.diagnostics.dead_letters import queue_names
from mycelium.runner.process_plan import GATEWAY, SERVICES
from mycelium.runner.supervisor import processes, restarts
from mycelium.seed import schemas_of
from mycelium.servers import NotReady, free_port, wait_until
from mycelium.servers.program import tied_to_parent
from mycelium.state import ROOT, State

START_TIMEOUT_SECONDS = 180
STOP_TIMEOUT_SECONDS = 60
MAX_TRIES = 3
SETTLE_TIMEOUT_SECONDS = 600
_KEPT_TABLES = {"products", "users", "customers"}


class Mesh:
    def __init__(self, state: State, pid: int, name: str = "mesh") -> None:
        self.state, self._pid, self.name = state, pid, name
        self._settings = state.environment()
        self.url = self._settings["GATEWAY_URL"]
        self._host = self.url.removeprefix("http://")
        self.tokens = open_shop(self.url, self._settings["ADMIN_PASSWORD"])
        self._before = (0, 0)
        self._beside: Mapping[str, int] = {}

    def behind(self, name: str, host: str, beside: Mapping[str, int]) -> Mesh:
        """Return the same mesh behind a gateway at `host`; `beside` are the processes outside the mesh."""
        other = copy(self)
        other.name, other._host, other._beside = name, host, beside
        return other

    def orders(self) -> load.Load:
        return load.orders(self._host, self.tokens, one_line=False)

    def reads(self) -> load.Load:
        return load.reads(self._host)

    def roots(self) -> Mapping[str, int]:
        members = {row["name"]: row["pid"] for row in processes(self.state) or () if row["pid"]}
        if GATEWAY in self._beside:
            members["the mesh's own gateway"] = members.pop(GATEWAY)
        return {**members, **self._beside, "supervisor": self._pid}

    def clean(self) -> None:
        self.settle()
        for service in SERVICES:
            kept = _KEPT_TABLES | {schema.version_table for schema in schemas_of(service)}
            emptied = [f'"{name}"' for (name,) in rows(self.database(service), _TABLES) if name not in kept]
            execute(self.database(service), f"TRUNCATE {', '.join(emptied)}", "VACUUM", "CHECKPOINT")
        for mail in (self.state.home / "outbox").iterdir():
            mail.unlink(missing_ok=True)

    def open_books(self) -> None:
        self._before = (self._orders_by_status().get("confirmed", 0), self._stock())

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        """Check that every order is confirmed, and that the stock fell by as many."""
        orders = self._orders_by_status()
        confirmed, stock = self._before
        confirmed, sold = orders.pop("confirmed", 0) - confirmed, stock - self._stock()
        if orders or not answered <= confirmed <= answered + unknown or confirmed != sold:
            raise WrongBooks(f"the mesh: {answered} responses, {confirmed} confirmed, {orders}, {sold} sold")
        ((late,),) = rows(self.database("orders"), "SELECT count(*) FROM orders WHERE attempts > 0")
        again = sum(max(0, times) for times in restarts(self.state).values())
        return {LATE: late, "restarts so far": again}

    def placed(self) -> int:
        return sum(self._orders_by_status().values())

    def settle(self) -> None:
        """Wait until no order is pending, and every event is sent and handled."""
        wait_until(self._is_settled, SETTLE_TIMEOUT_SECONDS, "the mesh has not settled", log=self.state.logs)

    def database(self, service: str) -> str:
        return self._settings["DATABASE_URL"].replace("{service}", service)

    def _is_settled(self) -> bool:
        ((pending,),) = rows(self.database("orders"), "SELECT count(*) FROM orders WHERE status = 'pending'")
        unsent = [rows(self.database(service), _UNSENT)[0][0] for service in publishers()]
        return not pending and not any(unsent) and not self._waiting()

    def _waiting(self) -> int:
        """Count messages in the services' queues. Raises WrongBooks when a message is parked."""
        waiting = 0
        with Connection(self._settings["AMQP_URI"]) as connection:
            for name in [f"{queue}{suffix}" for queue in queue_names() for suffix in ("", ".retry", ".dead")]:
                with suppress(NotFound), connection.channel() as channel:
                    count = Queue(name, channel=channel, no_declare=True).queue_declare(passive=True)[1]
                    if count and name.endswith(".dead"):
                        raise WrongBooks(f"{count} messages are parked in {name}")
                    waiting += count
        return waiting

    def _orders_by_status(self) -> dict[str, int]:
        return dict(rows(self.database("orders"), "SELECT status, count(*) FROM orders GROUP BY status"))

    def _stock(self) -> int:
        query = "SELECT sum(stock) FROM products WHERE id LIKE 'bench-%%'"
        return int(rows(self.database("products"), query)[0][0])


LOADS: Mapping[str, Callable[[Mesh], load.Load]] = {"orders": Mesh.orders, "reads": Mesh.reads}

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


@contextmanager
def mesh(folder: Path, *options: str, checkout: Path = ROOT, name: str = "mesh") -> Iterator[Mesh]:
    """Run the mesh in a state folder of its own, with the benchmark's users and products.

    `checkout` is a checkout of this project with a `.venv` of its own.
    """
    for number in range(MAX_TRIES):
        state, process = State(folder / f"state-{number}"), None
        try:
            process = _start(state, folder / f"output-{number}.txt", options, checkout)
            break
        except NotReady:  # another mesh that started at the same time may have taken a port
            if number == MAX_TRIES - 1:
                raise
    assert process is not None
    try:
        yield Mesh(state, process.pid, name)
    finally:
        _stop(process)


def _start(state: State, log: Path, options: tuple[str, ...], checkout: Path) -> subprocess.Popen[bytes]:
    python = str(checkout / ".venv" / "bin" / "python")
    command = (python, "-m", "mycelium", "run", "--db", "postgresql", "--port", str(free_port()), *options)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            tied_to_parent(command),
            cwd=checkout,
            env=_environment(state),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, log)
    except BaseException:
        _stop(process)
        raise
    return process


def _environment(state: State) -> dict[str, str]:
    """Return this process's environment without servers, so that the mesh starts private servers."""
    servers = ("AMQP_URI", "CONSUL_HTTP_ADDR", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in servers}
    return {**environment, "MYCELIUM_HOME": str(state.home), "MYCELIUM_CACHE": str(CACHE)}


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        return "Ctrl-C" in log.read_text()

    def ended() -> str | None:
        return log.read_text()[-500:] if process.poll() is not None else None

    wait_until(is_ready, START_TIMEOUT_SECONDS, "the mesh", log=log, failure=ended)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(STOP_TIMEOUT_SECONDS)
