"""The mesh, started the way people start it: `mycelium run --db postgresql`, nothing switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path

from amqp.exceptions import NotFound
from kombu import Connection, Queue

from bench import load
from bench.ground import CACHE
from bench.results import LATE
from bench.stacks import WrongBooks
from bench.stacks.shop import open_shop
from bench.stacks.stock import execute, rows
from mycelium.parked import queues
from mycelium.plan import GATEWAY, SERVICES
from mycelium.servers import NotReady, free_port, wait_until
from mycelium.servers.program import tied_to_parent
from mycelium.state import ROOT, State
from mycelium.supervisor import processes, restarts

START_SECONDS = 180
STOP_SECONDS = 60
TRIES = 3
SETTLE_SECONDS = 600
_KEPT = "'products', 'users', 'customers', 'alembic_version'"


class Mesh:
    name = "mesh"

    def __init__(self, state: State, pid: int) -> None:
        self.state, self._pid = state, pid
        self._settings = state.environment()
        self.url = self._settings["GATEWAY_URL"]
        self._host = self.url.removeprefix("http://")
        self.tokens = open_shop(self.url, self._settings["ADMIN_PASSWORD"])
        self._before = (0, 0)
        self._beside: Mapping[str, int] = {}

    def behind(self, name: str, host: str, beside: Mapping[str, int]) -> Mesh:
        """The same mesh, reached through a gateway at `host`; `beside` are processes that are not its own."""
        other = copy(self)
        other.name, other._host, other._beside = name, host, beside
        return other

    def orders(self) -> load.Load:
        return load.orders(self._host, self.tokens, one_line=False)

    def reads(self) -> load.Load:
        return load.reads(self._host)

    def roots(self) -> Mapping[str, int]:
        members = {one["name"]: one["pid"] for one in processes(self.state) or () if one["pid"]}
        if GATEWAY in self._beside:
            members["the mesh's own gateway"] = members.pop(GATEWAY)
        return {**members, **self._beside, "supervisor": self._pid}

    def clean(self) -> None:
        self.settle()
        for service in SERVICES:
            tables = [f'"{name}"' for (name,) in rows(self.database(service), _TABLES)]
            execute(self.database(service), f"TRUNCATE {', '.join(tables)}", "VACUUM", "CHECKPOINT")
        for mail in (self.state.home / "outbox").iterdir():
            mail.unlink(missing_ok=True)

    def open_books(self) -> None:
        self._before = (self._orders_by_status().get("confirmed", 0), self._stock())

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        """Every order confirmed, in the books of orders and of products, and its events handled."""
        orders = self._orders_by_status()
        confirmed, stock = self._before
        confirmed, sold = orders.pop("confirmed", 0) - confirmed, stock - self._stock()
        if orders or not answered <= confirmed <= answered + unknown or confirmed != sold:
            raise WrongBooks(f"the mesh: {answered} answers, {confirmed} confirmed, {orders}, {sold} sold")
        ((late,),) = rows(self.database("orders"), "SELECT count(*) FROM orders WHERE attempts > 0")
        again = sum(max(0, times) for times in restarts(self.state).values())
        return {LATE: late, "restarts so far": again}

    def placed(self) -> int:
        return sum(self._orders_by_status().values())

    def settle(self) -> None:
        """Wait until no order is pending, and every event is sent and handled."""
        wait_until(self._is_settled, SETTLE_SECONDS, "the mesh has not settled", log=self.state.logs)

    def database(self, service: str) -> str:
        return self._settings["DATABASE_URL"].replace("{service}", service)

    def _is_settled(self) -> bool:
        ((pending,),) = rows(self.database("orders"), "SELECT count(*) FROM orders WHERE status = 'pending'")
        unsent = [rows(self.database(one), _UNSENT)[0][0] for one in ("products", "users", "orders")]
        return not pending and not any(unsent) and not self._waiting()

    def _waiting(self) -> int:
        """Messages in the queues of the services. Raises WrongBooks when one of them was parked."""
        found = 0
        with Connection(self._settings["AMQP_URI"]) as connection:
            for name in [f"{queue}{suffix}" for queue in queues() for suffix in ("", ".retry", ".dead")]:
                with suppress(NotFound), connection.channel() as channel:
                    count = Queue(name, channel=channel, no_declare=True).queue_declare(passive=True)[1]
                    if count and name.endswith(".dead"):
                        raise WrongBooks(f"{count} messages are parked in {name}")
                    found += count
        return found

    def _orders_by_status(self) -> dict[str, int]:
        return dict(rows(self.database("orders"), "SELECT status, count(*) FROM orders GROUP BY status"))

    def _stock(self) -> int:
        query = "SELECT sum(stock) FROM products WHERE id LIKE 'bench-%%'"
        return int(rows(self.database("products"), query)[0][0])


_TABLES = f"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ({_KEPT})"
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


@contextmanager
def mesh(folder: Path, *options: str) -> Iterator[Mesh]:
    """`mycelium run` in a state folder of its own, and users and products in it."""
    for number in range(TRIES):
        state, process = State(folder / f"state-{number}"), None
        try:
            process = _start(state, folder / f"output-{number}.txt", options)
            break
        except NotReady:  # another mesh, started at the same moment, may have taken a port
            if number == TRIES - 1:
                raise
    assert process is not None
    try:
        yield Mesh(state, process.pid)
    finally:
        _stop(process)


def _start(state: State, log: Path, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    own = ("AMQP_URI", "CONSUL_HTTP_ADDR", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    command = (
        sys.executable,
        "-m",
        "mycelium",
        "run",
        "--db",
        "postgresql",
        "--port",
        str(free_port()),
        *options,
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            tied_to_parent(command),
            cwd=ROOT,
            env={**environment, "MYCELIUM_HOME": str(state.home), "MYCELIUM_CACHE": str(CACHE)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def ended() -> str | None:
        return log.read_text()[-500:] if process.poll() is not None else None

    try:
        wait_until(lambda: "Ctrl-C" in log.read_text(), START_SECONDS, "the mesh", log=log, failure=ended)
    except BaseException:
        _stop(process)
        raise
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(STOP_SECONDS)
