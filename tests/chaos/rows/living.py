"""R13: ten minutes of orders, with a random fault every minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.load import Load, while_ordering
from tests.chaos.rows import row
from tests.chaos.rows.servers import for_a_while
from tests.chaos.stage import Stage

FREEZE_SECONDS = 5.0
MAX_GROWTH_MB = 40
"""Limit on the growth of each process during the row. Caches are far smaller."""
QUEUES_PER_DEATH = 8
"""A killed process leaves private queues behind, which the broker deletes after a while."""


@row(
    "R13",
    load="10 minutes of orders and cancels, a random fault each minute",
    passes="as R1; memory and the number of queues stay flat",
    control="leaks",
    sabotaged="orders products",
)
async def a_bad_day(stage: Stage) -> None:
    minutes, seconds = stage.choose((10, 60.0), (2, 8.0))
    products = await stage.shop.stock_up(*[20_000] * 5)
    queues_before = len(await asyncio.to_thread(stage.faults.broker.queues))
    first: dict[int, float] = {}
    last: dict[int, float] = {}

    async def live() -> None:
        for _ in range(minutes):
            await asyncio.sleep(seconds / 2)
            await _random_fault(stage)
            await stage.watch_the_pending()
            await asyncio.sleep(seconds / 2)
            await stage.mesh_is_ready()
            last.update(_memory(stage))
            for pid, megabytes in last.items():
                first.setdefault(pid, megabytes)

    load = Load(products, clients=6, at_least=20, pause=0.8, cancelled=0.3)
    await while_ordering(stage, live(), load)
    await stage.judge()
    growth = {pid: last[pid] - first[pid] for pid in _memory(stage) if pid in first}
    most = max(growth.values(), default=0.0)
    stage.expect(most <= MAX_GROWTH_MB, f"a process has grown by {most:.0f} MB")
    more = len(await asyncio.to_thread(stage.faults.broker.queues)) - queues_before
    allowed = QUEUES_PER_DEATH * stage.faults.counts.total()
    stage.expect(more <= allowed, f"{more} more queues than before")
    stage.figures["largest growth of a process"] = f"{most:.0f} MB"
    stage.figures["more queues"] = more


async def _random_fault(stage: Stage) -> None:
    """Inject a random fault. The short form uses mild faults, so that a process lives long enough to grow."""
    faults, mesh, rng = stage.faults, stage.mesh, stage.rng
    name = rng.choice(mesh.services())
    mild: list[Callable[[], Awaitable[object]]] = [
        lambda: faults.kill_server("consul"),
        lambda: for_a_while(faults.frozen("notifications-1"), FREEZE_SECONDS / 2),
    ]
    harsh: list[Callable[[], Awaitable[object]]] = [
        lambda: faults.kill(name),
        lambda: faults.terminate(name),
        lambda: for_a_while(faults.frozen(name), FREEZE_SECONDS),
        lambda: faults.kill_server("rabbitmq"),
        lambda: faults.kill_server("postgresql"),
        lambda: for_a_while(faults.frozen("rabbitmq"), FREEZE_SECONDS),
        lambda: for_a_while(faults.frozen("postgresql"), FREEZE_SECONDS),
        lambda: for_a_while(faults.memory_alarm(), FREEZE_SECONDS),
    ]
    await rng.choice(mild if stage.is_short else mild + harsh)()


def _memory(stage: Stage) -> Counter[int]:
    """Return the resident megabytes of the services' processes and the gateway, by pid."""
    megabytes: Counter[int] = Counter()
    for process in stage.mesh.processes():
        if process.group in ("services", "edge") and process.pid:
            status = Path(f"/proc/{process.pid}/status").read_text()
            kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
            megabytes[process.pid] = int(kilobytes) // 1024
    return megabytes
