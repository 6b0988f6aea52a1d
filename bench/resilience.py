"""`python -m bench.resilience`: three instances of products are read while they die, freeze, leave and come.

Reads begin at a steady rate, whatever became of those before (an open loop: who waits does not ask less).
The client tries again what a client may: a read whose connection broke, or that was answered 503; after
that it waits as long as it is told to.
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

TRIES = 4
PAUSE_SECONDS = 0.05
SLOW_SECONDS = 0.3
"""What a read takes at most that is asked of a second instance: recovery is over when none takes longer."""
START_SECONDS = 60.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, slots=True)
class Read:
    began: float
    seconds: float
    statuses: tuple[int, ...]
    """Of each try; 0 where the connection broke."""
    is_copy: bool
    """Of what was read some seconds ago, for nobody could be asked."""

    @property
    def failed(self) -> bool:
        return self.statuses[-1] != 200


@dataclass(slots=True)
class Phase:
    name: str
    reads: list[Read] = field(default_factory=list)
    facts: str = ""

    def row(self, fault_at: float) -> tuple[str, ...]:
        times = sorted(read.seconds for read in self.reads)
        failed = sum(read.failed for read in self.reads)
        again = sum(len(read.statuses) > 1 for read in self.reads)
        trouble = [
            one.began + one.seconds - fault_at
            for one in self.reads
            if one.failed or (one.began + one.seconds > fault_at and one.seconds > SLOW_SECONDS)
        ]
        median, p99 = (round(1000 * quantiles(times, n=100)[at]) for at in (49, 98))
        recovered = f"{max(trouble):.2f} s" if trouble else "at once"
        figures = (len(times), failed, again, f"{median} ms", f"{p99} ms", f"{1000 * times[-1]:.0f} ms")
        return (self.name, *map(str, figures), recovered, self.facts)


class Customer:
    """Reads these paths of one mesh in turn, so many a second."""

    def __init__(self, http: PlainHttp, rate: float, *paths: str, **headers: str) -> None:
        self._http = http
        self._rate = rate
        self._headers = headers
        self._paths = cycle(paths)

    async def during(self, phase: Phase, act: Callable[[], Awaitable[None]], seconds: float) -> float:
        """Read until `act` is done and `seconds` are over. Returns when `act` began."""
        reading: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        acting = asyncio.create_task(act())
        turn = 0
        while time.monotonic() < began + seconds or not acting.done():
            task = asyncio.create_task(self._read(phase))
            reading.add(task)
            task.add_done_callback(reading.discard)
            turn += 1
            await asyncio.sleep(max(0.0, began + turn / self._rate - time.monotonic()))
        await asyncio.gather(acting, *reading)
        return began

    async def _read(self, phase: Phase) -> None:
        path = next(self._paths)
        began = time.monotonic()
        statuses: list[int] = []
        is_copy = False
        pause = 0.0
        while len(statuses) < TRIES:
            await asyncio.sleep(pause)
            pause = PAUSE_SECONDS * (len(statuses) + 1)
            try:
                answer = await self._http.get(path, self._headers)
                statuses.append(answer.status)
                is_copy = "age" in answer.headers
                pause = float(answer.headers.get("retry-after", pause))
            except (OSError, EOFError, TimeoutError):
                statuses.append(0)
            if statuses[-1] not in (0, 503):
                break
        phase.reads.append(Read(began, time.monotonic() - began, tuple(statuses), is_copy))


class Stage:
    """The mesh, and what can be done to it."""

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
        """So far, by instance of products."""
        seen = await asyncio.to_thread(list_instances, None, None, self._settings["METRICS_URL"])
        return Counter({one.instance: one.calls or 0 for one in seen if one.connected is not None})

    async def frozen(self, seconds: float, *names: str) -> None:
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    async def without(self, program: str, seconds: float) -> None:
        await self.told("stopProcess", program)
        await asyncio.sleep(seconds)
        await self.told("startProcess", program, False)

    async def added(self, program: str, phase: Phase) -> None:
        """Start one more instance; how long after its check passes it has its first call."""
        await self.told("startProcess", program, False)
        before = set(await self._passing())
        end = time.monotonic() + START_SECONDS
        while not (new := set(await self._passing()) - before):
            await self._wait(end)
        passed_at = time.monotonic()
        (instance,) = new
        while not (await self.calls())[instance]:
            await self._wait(end)
        phase.facts = f"in use {time.monotonic() - passed_at:.1f} s after its check passed"

    async def _passing(self) -> list[str]:
        seen = await asyncio.to_thread(list_instances, self._settings["CONSUL_HTTP_ADDR"], None, None)
        return [one.instance for one in seen if one.service == "products" and one.checks == "passing"]

    async def told(self, method: str, program: str, *more: Any) -> None:
        await asyncio.to_thread(getattr(connect(self._state).supervisor, method), program, *more)

    async def _wait(self, end: float) -> None:
        if time.monotonic() > end:
            raise TimeoutError("the new instance was not used in time")
        await asyncio.sleep(0.05)


@app.command()
def resilience(
    rate: Annotated[float, typer.Option(min=1, help="Reads a second.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=3, help="Of each phase, at least.")] = 12.0,
    away: Annotated[float, typer.Option(min=1, help="Seconds that Consul is away.")] = 60.0,
) -> None:
    """Exits 1 when a read failed for good, or the load was spread more than 20 % from even."""
    home = ROOT / ".mycelium" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    with mesh(folder, "--scale", "products=3") as stack:
        token = next(iter(stack.tokens.values()))
        is_good = asyncio.run(_play(Stage(stack), token, rate, seconds, away))
    shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(0 if is_good else 1)


async def _play(stage: Stage, token: str, rate: float, seconds: float, away: float) -> bool:
    columns = ("", "reads", "failed", "tried again", "p50", "p99", "slowest", "last slow one", "")
    table = Table(*columns, box=None)
    failed = 0
    with closing(PlainHttp(stage.url)) as http:
        readers = Customer(http, rate, *(f"/products/{one}" for one in PRODUCTS[:100]))
        others = Customer(http, rate / 4, "/orders?limit=1", Authorization=f"Bearer {token}")
        await asyncio.gather(*(one.during(Phase("warm"), _nothing, 3.0) for one in (readers, others)))

        async def play(phase: Phase, act: Callable[[], Awaitable[None]]) -> None:
            nonlocal failed
            fault_at = await readers.during(phase, act, seconds)
            failed += sum(read.failed for read in phase.reads)
            table.add_row(*phase.row(fault_at))

        before = await stage.calls()
        steady = Phase("nothing happens")
        await readers.during(steady, _nothing, seconds)
        share = _spread(await stage.calls() - before)
        steady.facts = f"at most {100 * share:.0f} % from even"
        table.add_row(*steady.row(float("inf")))

        await play(Phase("kill -9 of one"), stage.signal("products-1", signal.SIGKILL))
        await play(Phase("SIGTERM of one"), stage.signal("products-2", signal.SIGTERM))
        await play(Phase("SIGSTOP of one"), lambda: stage.frozen(seconds / 2, "products-3"))
        await stage.told("stopProcess", "services:products-3")
        added = Phase("one more")
        await play(added, lambda: stage.added("services:products-3", added))
        await play(Phase("Consul is away"), lambda: stage.without("server-consul:consul", away))

        calm, busy, asleep = Phase("orders, meanwhile"), Phase("orders, meanwhile"), Phase("all asleep")
        await asyncio.gather(
            readers.during(Phase("products"), _nothing, seconds), others.during(calm, _nothing, seconds)
        )
        everybody = [f"products-{number}" for number in (1, 2, 3)]
        fell_asleep, _ = await asyncio.gather(
            readers.during(asleep, lambda: stage.frozen(seconds, *everybody), seconds),
            others.during(busy, _nothing, seconds),
        )
        asleep.facts = _shedding(asleep, fell_asleep)
        for phase in (calm, asleep, busy):
            table.add_row(*phase.row(float("inf")))
    out.print(table)
    return not failed and share <= 0.2


def _shedding(phase: Phase, since: float) -> str:
    copies = [read for read in phase.reads if read.is_copy]
    shed = [read for read in phase.reads if 503 in read.statuses]
    first = min((read.began + read.seconds - since for read in [*copies, *shed]), default=float("nan"))
    return f"{len(copies)} copies, {len(shed)} told 503, the first of them after {first:.1f} s"


async def _nothing() -> None:
    await asyncio.sleep(0)


def _spread(calls: Mapping[str, int]) -> float:
    """How far the instance that is farthest from its fair share is from it, as a part of that."""
    fair = sum(calls.values()) / max(1, len(calls))
    return max((abs(one - fair) / fair for one in calls.values()), default=1.0)


if __name__ == "__main__":
    app()
