"""Read from three instances of products while they are killed, frozen, removed and added.

Run it with `python -m bench.resilience`. The client retries a read after a broken connection. After a 503 it
waits for `Retry-After` first.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from typing import Annotated

import typer
from rich.table import Table

from bench.catalogue import PRODUCTS
from bench.faults import FaultyMesh
from bench.open_loop import Customer, Phase
from bench.plain_http import PlainHttp
from bench.scratch import scratch
from bench.stacks.mesh import mesh
from mycelium.cli.output import out

MAX_DEVIATION = 0.2
"""The largest accepted deviation of an instance's calls from an even spread."""
WARM_SECONDS = 3.0
INSTANCES = ("products-1", "products-2", "products-3")
COLUMNS = ("", "reads", "failed", "retried", "p50", "p99", "slowest", "last slow read", "")
NO_FAULT_AT = float("inf")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def resilience(
    rate: Annotated[float, typer.Option(min=1, help="Reads per second.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=3, help="Seconds of each phase, at least.")] = 12.0,
    away: Annotated[float, typer.Option(min=1, help="Seconds without Consul.")] = 60.0,
) -> None:
    """Inject faults under load. Exits 1 if a read fails for good or calls are spread unevenly (over 20 %)."""
    with scratch() as folder, mesh(folder, "--scale", "products=3") as stack:
        token = next(iter(stack.tokens.values()))
        is_good = asyncio.run(_measure(FaultyMesh(stack), token, rate, seconds, away))
    raise typer.Exit(0 if is_good else 1)


async def _measure(faulty: FaultyMesh, token: str, rate: float, seconds: float, away: float) -> bool:
    with closing(PlainHttp(faulty.url)) as http:
        readers = Customer(http, rate, *(f"/products/{product}" for product in PRODUCTS[:100]))
        others = Customer(http, rate / 4, "/orders?limit=1", Authorization=f"Bearer {token}")
        await asyncio.gather(
            *(customer.during(Phase("warm"), _nothing, WARM_SECONDS) for customer in (readers, others))
        )
        experiment = _Experiment(faulty, readers, others, seconds)
        await experiment.without_fault()
        await experiment.with_faults(away)
        await experiment.all_frozen()
    out.print(experiment.table)
    return not experiment.failed and experiment.deviation <= MAX_DEVIATION


class _Experiment:
    """The phases of a measurement, and the table of their figures."""

    def __init__(self, faulty: FaultyMesh, readers: Customer, others: Customer, seconds: float) -> None:
        self._faulty, self._readers, self._others, self._seconds = faulty, readers, others, seconds
        self.table = Table(*COLUMNS, box=None)
        self.failed = 0
        self.deviation = 1.0

    async def without_fault(self) -> None:
        phase = Phase("no fault")
        before = await self._faulty.calls()
        await self._readers.during(phase, _nothing, self._seconds)
        self.deviation = _deviation(await self._faulty.calls() - before)
        phase.facts = f"{100 * self.deviation:.0f} % from an even spread at most"
        self.table.add_row(*phase.row(NO_FAULT_AT))

    async def with_faults(self, away: float) -> None:
        faulty, (first, second, third) = self._faulty, INSTANCES
        await self._read_during(Phase("kill -9 of an instance"), faulty.signal(first, signal.SIGKILL))
        await self._read_during(Phase("SIGTERM of an instance"), faulty.signal(second, signal.SIGTERM))
        half = self._seconds / 2
        await self._read_during(Phase("SIGSTOP of an instance"), lambda: faulty.freeze(half, third))
        await self._read_during_addition(third)
        await self._read_during(Phase("without Consul"), lambda: faulty.stop("server-consul:consul", away))

    async def all_frozen(self) -> None:
        """Freeze all instances, and compare reads of orders with reads before the freeze."""
        orders, orders_frozen = Phase("orders, no fault"), Phase("orders, products frozen")
        products_frozen = Phase("all instances frozen")
        await asyncio.gather(
            self._readers.during(Phase("products"), _nothing, self._seconds),
            self._others.during(orders, _nothing, self._seconds),
        )
        frozen_at, _ = await asyncio.gather(
            self._readers.during(products_frozen, self._freeze_all, self._seconds),
            self._others.during(orders_frozen, _nothing, self._seconds),
        )
        products_frozen.facts = _degraded(products_frozen, frozen_at)
        for phase in (orders, products_frozen, orders_frozen):
            self.table.add_row(*phase.row(NO_FAULT_AT))

    async def _freeze_all(self) -> None:
        await self._faulty.freeze(self._seconds, *INSTANCES)

    async def _read_during_addition(self, instance: str) -> None:
        program, phase = f"services:{instance}", Phase("another instance")
        await self._faulty.supervise("stopProcess", program)

        async def add() -> None:
            phase.facts = f"in use {await self._faulty.add(program):.1f} s after its check passed"

        await self._read_during(phase, add)

    async def _read_during(self, phase: Phase, fault: Callable[[], Awaitable[None]]) -> None:
        fault_at = await self._readers.during(phase, fault, self._seconds)
        self.failed += sum(read.failed for read in phase.reads)
        self.table.add_row(*phase.row(fault_at))


def _degraded(phase: Phase, since: float) -> str:
    copies = [read for read in phase.reads if read.is_copy]
    refused = [read for read in phase.reads if 503 in read.statuses]
    first = min((read.ended - since for read in [*copies, *refused]), default=float("nan"))
    return f"{len(copies)} copies and {len(refused)} with a 503, the first after {first:.1f} s"


async def _nothing() -> None:
    await asyncio.sleep(0)


def _deviation(calls: Mapping[str, int]) -> float:
    """Return the largest deviation from an even spread, as a part of the even share."""
    fair = sum(calls.values()) / max(1, len(calls))
    return max((abs(count - fair) / fair for count in calls.values()), default=1.0)


if __name__ == "__main__":
    app()
