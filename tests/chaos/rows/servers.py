"""R5, R6, R12: the broker, the databases and the registry die, freeze or stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.chaos.cast import Cast
from tests.chaos.history import History
from tests.chaos.load import Load, while_ordering
from tests.chaos.mesh import Mesh
from tests.chaos.rows import row
from tests.chaos.servers import discovered
from tests.chaos.stage import Stage, a_stage, all_of
from tests.waiting import eventually_in_thread

SLOWEST_REQUEST = 10.0
RECOVERY_SECONDS = 30.0
PATIENCE_SECONDS = 180.0
DISCOVERY_SECONDS = 15.0
RESTART_SECONDS = 30.0
"""The watchdog restarts a hanging process only after several failed checks."""


async def time_until_confirmed(stage: Stage, product: str, fault: str) -> None:
    """Measure the time until the next order is confirmed, and compare it with the promise."""
    began = time.monotonic()
    attempt = await stage.shop.order([(product, 1)], patience=4 * RECOVERY_SECONDS)
    took = time.monotonic() - began
    stage.expect(attempt.status == 201, f"after {fault}: {attempt.status or attempt.code}")
    stage.expect(took <= RECOVERY_SECONDS, f"after {fault}: the next order took {took:.0f} s")
    slowest = max(took, float(stage.figures.get("slowest recovery", "0 s").split()[0]))
    stage.figures["slowest recovery"] = f"{slowest:.1f} s"


async def for_a_while(fault: AbstractAsyncContextManager[None], seconds: float) -> None:
    async with fault:
        await asyncio.sleep(seconds)


@row(
    "R5",
    load="broker: 5 times kill -9, 10 and 60 s stopped, 30 s frozen, 30 s memory alarm; 300 orders",
    passes="no confirmed event lost, no request over 10 s, recovery in 30 s",
    control="sent-before-published",
    sabotaged="orders",
)
async def broker_fails(stage: Stage) -> None:
    kills, stops, frozen, alarm = stage.choose((5, (10, 60), 30, 30), (1, (), 3, 3))
    faults = stage.faults
    products = await stage.shop.stock_up(5000, 5000, 5000)

    async def break_it() -> None:
        for _ in range(kills):
            await faults.kill_server("rabbitmq")
            await time_until_confirmed(stage, products[0], "a kill of the broker")
        for seconds in stops:
            await for_a_while(faults.stopped("rabbitmq"), seconds)
            await time_until_confirmed(stage, products[0], f"{seconds} s without the broker")
        await for_a_while(faults.frozen("rabbitmq"), frozen)
        await time_until_confirmed(stage, products[0], f"a broker frozen for {frozen} s")
        await for_a_while(faults.memory_alarm(), alarm)
        await time_until_confirmed(stage, products[0], f"a memory alarm of {alarm} s")

    at_least = stage.choose(300, 40)
    load = Load(products, clients=8, at_least=at_least, cancelled=0.2, patience=PATIENCE_SECONDS)
    await while_ordering(stage, break_it(), load)
    await stage.judge()
    _no_request_was_slow(stage)


def _no_request_was_slow(stage: Stage) -> None:
    slowest = stage.history.slowest()
    stage.expect(slowest <= SLOWEST_REQUEST, f"a request took {slowest:.1f} s")
    stage.figures["slowest request"] = f"{slowest:.1f} s"


FROZEN_PROCESS_SECONDS = 5.0


@row(
    "R6",
    load="PostgreSQL: 5 times kill -9, 20 s frozen; SQLite: kill -9 each service 3 times",
    passes="as R1; no process blocks for 5 s",
    control="blocking-driver",
    sabotaged="products orders users notifications",
)
async def database_fails(stage: Stage) -> None:
    kills, seconds = stage.choose((5, 20), (1, 5))
    products = await stage.shop.stock_up(5000, 5000)

    async def break_it() -> None:
        for _ in range(kills):
            await stage.faults.kill_server("postgresql")
            await time_until_confirmed(stage, products[0], "a kill of PostgreSQL")
        async with stage.faults.frozen("postgresql"):
            await asyncio.sleep(seconds)
            await _no_process_blocks(stage, "while PostgreSQL was frozen")
        await _no_process_blocks(stage, "after PostgreSQL was frozen")
        await time_until_confirmed(stage, products[0], "a frozen PostgreSQL")

    load = Load(products, clients=6, at_least=stage.choose(200, 30), cancelled=0.2)
    await while_ordering(stage, break_it(), load)
    await stage.judge()
    if not stage.is_short:
        await _on_sqlite(stage)


async def _no_process_blocks(stage: Stage, when: str) -> None:
    """Check that each process responds within five seconds."""

    async def responds(name: str) -> None:
        responded = await asyncio.to_thread(stage.mesh.responds, name, FROZEN_PROCESS_SECONDS)
        stage.expect(responded, f"{name} was blocked {when}")

    await all_of(responds(name) for name in stage.mesh.services() if name != "gateway")


async def _on_sqlite(stage: Stage) -> None:
    """Kill the processes of a mesh that stores its data in SQLite."""
    mesh = Mesh(stage.folder / "sqlite", postgresql=False)
    try:
        await asyncio.to_thread(mesh.start)
        cast = await asyncio.to_thread(Cast.of, mesh)
        async with a_stage(mesh, cast, History(), stage.rng, False, stage.folder) as other:
            products = await other.shop.stock_up(5000, 5000)
            victims = [name for service in ("products", "orders") for name in mesh.instances(service)]
            killing = _one_by_one(other.faults.kill(name) for name in victims * 3)
            await while_ordering(other, killing, Load(products, clients=6, at_least=100, cancelled=0.2))
            await other.judge()
        stage.findings += [f"on SQLite: {finding}" for finding in other.findings]
        for fault, times in other.faults.counts.items():
            stage.faults.counts[f"{fault} on SQLite"] += times
        stage.figures["on SQLite terminal after"] = f"{other.recovery_seconds or 0:.1f} s"
    finally:
        await asyncio.to_thread(mesh.stop)


async def _one_by_one(kills: Iterable[Coroutine[Any, Any, None]]) -> None:
    for kill in kills:
        await kill


@row(
    "R12",
    load="a consumer hangs, a service freezes; Consul is killed, and stopped for 20 s",
    passes="out of discovery in 15 s, back in 15 s; orders need no Consul",
    control="always-well",
    sabotaged="orders",
)
async def dead_instances_leave_discovery(stage: Stage) -> None:
    products = await stage.shop.stock_up(5000)
    faults, mesh = stage.faults, stage.mesh

    async def break_it() -> None:
        pid = await faults.hit("orders.consuming", "hang")
        name = next(process.name for process in mesh.processes() if process.pid == pid)
        await _timed(stage, name, present=False, after=f"{name}, its consumer hanging")
        began = time.monotonic()
        await eventually_in_thread(
            lambda: mesh.process(name).pid not in (0, pid), RESTART_SECONDS, f"the restart of {name}"
        )
        stage.figures["hanging until restarted"] = f"{time.monotonic() - began:.1f} s"
        await _timed(stage, name, present=True, after=f"{name}, restarted")
        async with faults.frozen("products-1"):
            await _timed(stage, "products-1", present=False, after="products-1, frozen")
        await _timed(stage, "products-1", present=True, after="products-1, thawed")

    await while_ordering(stage, break_it(), Load(products, clients=4, at_least=20))
    await stage.judge()
    await _unaffected(stage, products, _consul_is_away(stage))
    await stage.judge()


async def _consul_is_away(stage: Stage) -> None:
    await stage.faults.kill_server("consul")
    await _timed(stage, "products-2", present=True, after="products-2, Consul killed")
    await for_a_while(stage.faults.stopped("consul"), stage.choose(20, 3))
    await _timed(stage, "orders-1", present=True, after="orders-1, Consul restarted")


async def _unaffected(stage: Stage, products: list[str], fault: Coroutine[Any, Any, None]) -> None:
    before = len(stage.history.attempts)
    await while_ordering(stage, fault, Load(products, clients=3, at_least=10))
    failed = [attempt for attempt in stage.history.attempts[before:] if attempt.status != 201]
    stage.expect(not failed, f"without Consul {len(failed)} orders were answered {failed[:1]}")
    status, _ = await stage.shop.read(f"/products/{products[0]}")
    stage.expect(status == 200, f"without Consul a product was answered {status}")


async def _timed(stage: Stage, name: str, *, present: bool, after: str) -> None:
    """Measure the time until discovery changes. Wait twice the limit, to tell late from never."""
    began = time.monotonic()
    now = "in discovery" if present else "out of discovery"
    try:
        await eventually_in_thread(
            lambda: discovered(stage.mesh, name) == present, 2 * DISCOVERY_SECONDS, f"{after}: {now}"
        )
    except AssertionError as error:
        stage.findings.append(str(error))
        return
    took = time.monotonic() - began
    stage.expect(took <= DISCOVERY_SECONDS, f"{after}: {now} after {took:.0f} s")
    stage.figures[f"{after}: {now} after"] = f"{took:.1f} s"
