"""Read from three instances of products while they are killed, frozen, removed and added.

Run it with `python -m bench.resilience`. Reads start at a steady rate, and slow responses do not lower the
rate (an open loop). The client retries a read after a broken connection. After a 503 it waits for
`Retry-After` first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.catalogue import PRODUCTS
from bench.plain_http import PlainHttp
from bench.stacks.mesh import Mesh, mesh
from mycelium.diagnostics.instances import list_instances
from mycelium.runner.supervisor import connect, pid_of
from mycelium.state import ROOT

MAX_TRIES = 4
PAUSE_SECONDS = 0.05
SLOW_SECONDS = 0.3
"""A read that switches to a second instance takes 0.3 s at most. Recovery ends with the last slower read."""
START_TIMEOUT_SECONDS = 60.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, slots=True)
class Read:
    """A read with all its tries. `seconds` is the time until the last response."""

    began: float
    seconds: float
    statuses: tuple[int, ...]
    """The status of each try; 0 for a broken connection."""
    is_copy: bool
    """The response was a cached copy, because no instance answered."""

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def failed(self) -> bool:
        return self.statuses[-1] != 200


@dataclass(slots=True)
class Phase:
    """The reads during a fault, and a line of the table."""

    name: str
    reads: list[Read] = field(default_factory=list)
    facts: str = ""

    def row(self, fault_at: float) -> tuple[str, ...]:
        times = sorted(read.seconds for read in self.reads)
        failed = sum(read.failed for read in self.reads)
        retried = sum(len(read.statuses) > 1 for read in self.reads)
        trouble = [
            read.ended - fault_at
            for read in self.reads
            if read.failed or (read.ended > fault_at and read.seconds > SLOW_SECONDS)
        ]
        median, p99 = (round(1000 * quantiles(times, n=100)[at]) for at in (49, 98))
        recovered = f"{max(trouble):.2f} s" if trouble else "at once"
        figures = (len(times), failed, retried, f"{median} ms", f"{p99} ms", f"{1000 * times[-1]:.0f} ms")
        return (self.name, *map(str, figures), recovered, self.facts)


class Customer:
    """Reads paths of a mesh in turn, at `rate` reads per second."""

    def __init__(self, http: PlainHttp, rate: float, *paths: str, **headers: str) -> None:
        self._http = http
        self._rate = rate
        self._headers = headers
        self._paths = cycle(paths)

    async def during(self, phase: Phase, act: Callable[[], Awaitable[None]], seconds: float) -> float:
        """Read until `act` is done and `seconds` have passed. Return the time when `act` began."""
        reading: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        acting = asyncio.create_task(act())
        started = 0
        while time.monotonic() < began + seconds or not acting.done():
            task = asyncio.create_task(self._read(phase))
            reading.add(task)
            task.add_done_callback(reading.discard)
            started += 1
            await asyncio.sleep(max(0.0, began + started / self._rate - time.monotonic()))
        await asyncio.gather(acting, *reading)
        return began

    async def _read(self, phase: Phase) -> None:
        path = next(self._paths)
        began = time.monotonic()
        statuses: list[int] = []
        is_copy = False
        pause = 0.0
        while len(statuses) < MAX_TRIES:
            await asyncio.sleep(pause)
            pause = PAUSE_SECONDS * (len(statuses) + 1)
            try:
                response = await self._http.get(path, self._headers)
                statuses.append(response.status)
                is_copy = "age" in response.headers
                pause = float(response.headers.get("retry-after", pause))
            except (OSError, EOFError, TimeoutError):
                statuses.append(0)
            if statuses[-1] not in (0, 503):
                break
        phase.reads.append(Read(began, time.monotonic() - began, tuple(statuses), is_copy))


class Stage:
    """A mesh, and the faults to inject into it."""

    def __init__(self, stack: Mesh) -> None:
        self._state = stack.state
        self._settings = stack.state.environment()
        self.url = stack.url

    def pid(self, name: str) -> int:
        return pid_of(self._state, name)

    def signal(self, name: str, number: signal.Signals) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            os.kill(self.pid(name), number)

        return act

    async def calls(self) -> Counter[str]:
        """Return calls so far, by instance of products."""
        rows = await asyncio.to_thread(list_instances, None, None, self._settings["METRICS_URL"])
        return Counter({row.instance: row.calls or 0 for row in rows if row.connected is not None})

    async def freeze(self, seconds: float, *names: str) -> None:
        """Stop processes with SIGSTOP for some seconds."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    async def stop(self, program: str, seconds: float) -> None:
        """Stop a program, and start it again after some seconds."""
        await self.supervise("stopProcess", program)
        await asyncio.sleep(seconds)
        await self.supervise("startProcess", program, False)

    async def add(self, program: str, phase: Phase) -> None:
        """Start another instance, and note the time from its passing check to its first call."""
        await self.supervise("startProcess", program, False)
        before = set(await self._passing())
        end = time.monotonic() + START_TIMEOUT_SECONDS
        while not (new := set(await self._passing()) - before):
            await self._wait(end)
        passed_at = time.monotonic()
        (instance,) = new
        while not (await self.calls())[instance]:
            await self._wait(end)
        phase.facts = f"in use {time.monotonic() - passed_at:.1f} s after its check passed"

    async def _passing(self) -> list[str]:
        rows = await asyncio.to_thread(list_instances, self._settings["CONSUL_HTTP_ADDR"], None, None)
        return [row.instance for row in rows if row.service == "products" and row.checks == "passing"]

    async def supervise(self, method: str, program: str, *arguments: Any) -> None:
        """Call a method of the supervisor."""
        await asyncio.to_thread(getattr(connect(self._state).supervisor, method), program, *arguments)

    async def _wait(self, end: float) -> None:
        if time.monotonic() > end:
            raise TimeoutError("the new instance was not used in time")
        await asyncio.sleep(0.05)


@app.command()
def resilience(
    rate: Annotated[float, typer.Option(min=1, help="Reads per second.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=3, help="Seconds of each phase, at least.")] = 12.0,
    away: Annotated[float, typer.Option(min=1, help="Seconds without Consul.")] = 60.0,
) -> None:
    """Inject faults under load. Exits 1 if a read fails for good or the load is spread unevenly."""
    home = ROOT / ".mycelium" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    with mesh(folder, "--scale", "products=3") as stack:
        token = next(iter(stack.tokens.values()))
        is_good = asyncio.run(_play(Stage(stack), token, rate, seconds, away))
    shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(0 if is_good else 1)


async def _play(stage: Stage, token: str, rate: float, seconds: float, away: float) -> bool:
    columns = ("", "reads", "failed", "retried", "p50", "p99", "slowest", "last slow read", "")
    table = Table(*columns, box=None)
    failed = 0
    with closing(PlainHttp(stage.url)) as http:
        readers = Customer(http, rate, *(f"/products/{product}" for product in PRODUCTS[:100]))
        others = Customer(http, rate / 4, "/orders?limit=1", Authorization=f"Bearer {token}")
        await asyncio.gather(
            *(customer.during(Phase("warm"), _nothing, 3.0) for customer in (readers, others))
        )

        async def play(phase: Phase, act: Callable[[], Awaitable[None]]) -> None:
            nonlocal failed
            fault_at = await readers.during(phase, act, seconds)
            failed += sum(read.failed for read in phase.reads)
            table.add_row(*phase.row(fault_at))

        before = await stage.calls()
        steady = Phase("no fault")
        await readers.during(steady, _nothing, seconds)
        share = _spread(await stage.calls() - before)
        steady.facts = f"{100 * share:.0f} % from an even spread at most"
        table.add_row(*steady.row(float("inf")))

        await play(Phase("kill -9 of an instance"), stage.signal("products-1", signal.SIGKILL))
        await play(Phase("SIGTERM of an instance"), stage.signal("products-2", signal.SIGTERM))
        await play(Phase("SIGSTOP of an instance"), lambda: stage.freeze(seconds / 2, "products-3"))
        await stage.supervise("stopProcess", "services:products-3")
        added = Phase("another instance")
        await play(added, lambda: stage.add("services:products-3", added))
        await play(Phase("without Consul"), lambda: stage.stop("server-consul:consul", away))

        calm, during_freeze, frozen = (
            Phase("orders, no fault"),
            Phase("orders, all frozen"),
            Phase("all frozen"),
        )
        await asyncio.gather(
            readers.during(Phase("products"), _nothing, seconds), others.during(calm, _nothing, seconds)
        )
        all_names = [f"products-{number}" for number in (1, 2, 3)]
        frozen_at, _ = await asyncio.gather(
            readers.during(frozen, lambda: stage.freeze(seconds, *all_names), seconds),
            others.during(during_freeze, _nothing, seconds),
        )
        frozen.facts = _shedding(frozen, frozen_at)
        for phase in (calm, frozen, during_freeze):
            table.add_row(*phase.row(float("inf")))
    out.print(table)
    return not failed and share <= 0.2


def _shedding(phase: Phase, since: float) -> str:
    copies = [read for read in phase.reads if read.is_copy]
    shed = [read for read in phase.reads if 503 in read.statuses]
    first = min((read.began + read.seconds - since for read in [*copies, *shed]), default=float("nan"))
    return f"{len(copies)} copies and {len(shed)} with a 503, the first after {first:.1f} s"


async def _nothing() -> None:
    await asyncio.sleep(0)


def _spread(calls: Mapping[str, int]) -> float:
    """Return the largest deviation from an even spread, as a part of the even share."""
    fair = sum(calls.values()) / max(1, len(calls))
    return max((abs(count - fair) / fair for count in calls.values()), default=1.0)


if __name__ == "__main__":
    app()
