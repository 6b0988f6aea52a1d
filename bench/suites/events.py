"""Events per second from commit to handler: the mesh's outbox beside stock Nameko's dispatcher."""

from __future__ import annotations

import asyncio
import time

from bench import machine
from bench.measure import Clock, turns
from bench.options import Options
from bench.results import Sample
from bench.servers import BackendServers, backend_servers, mesh_service, pids
from mycelium.servers import running
from nameko_mesh import outbox, sql
from nameko_mesh.aio import RpcClient
from nameko_mesh.errors import MeshError
from nameko_mesh.sql import migrations

COUNT, QUICK_COUNT = 10_000, 1_000
WARM_COUNT = 200
READY_TIMEOUT_SECONDS, HANDLED_TIMEOUT_SECONDS = 30, 300
_POLL_SECONDS = 0.1
_ROUTES = {
    "outbox to two handlers: mesh, stock": ("outbox_source", ("mesh_sink", "stock_sink")),
    "stock dispatcher to a stock handler": ("stock_source", ("stock_sink",)),
}


def events(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure events per second. An event counts once, however many handlers receive it."""
    folder = options.folder / "events"
    with backend_servers(folder) as base:
        _make_outbox(base)
        names = ("events_source", "events_mesh", "events_stock")
        programs = [mesh_service(name, f"bench.programs.{name}", **base.environment) for name in names]
        with running(*programs, log_dir=folder / "logs") as processes:
            roots = {**base.pids, **pids(processes)}
            return asyncio.run(_measure(base, roots, options)), {}


def _make_outbox(base: BackendServers) -> None:
    base.database.create_database("outbox_source")
    migrations.upgrade(base.database.url_for("outbox_source"), (sql.SCHEMA, outbox.SCHEMA))


async def _measure(base: BackendServers, roots: dict[str, int], options: Options) -> list[Sample]:
    count = QUICK_COUNT if options.quick else COUNT
    async with RpcClient(
        base.broker.amqp_uri, name="bench", default_timeout=HANDLED_TIMEOUT_SECONDS
    ) as client:
        for route in _ROUTES.values():
            await _until_up(client, *route)
            await _publish(client, *route, WARM_COUNT)
        samples = []
        for number, (name, route) in turns(list(_ROUTES.items()), options.rounds):
            quiet = machine.wait_until_quiet(options.quiet_seconds)
            clock = Clock(roots)
            seconds = await _publish(client, *route, count)
            foreign = clock.foreign_cores(0)
            sample = Sample(
                suite="events",
                stack=name,
                clients=1,
                round=number,
                rate=count / seconds,
                p50=0,
                p99=0,
                foreign_cores=foreign,
                noisy=not quiet or foreign > machine.MAX_FOREIGN_CORES,
                cpu_us={process: round(1e6 * spent / count, 1) for process, spent in clock.spent().items()},
            )
            options.say(f"events round {number + 1}, {name}: {sample.rate:.0f}/s, CPU {sample.cost:.0f} us")
            samples.append(sample)
        return samples


async def _until_up(client: RpcClient, source: str, sinks: tuple[str, ...]) -> None:
    end = time.monotonic() + READY_TIMEOUT_SECONDS
    for service, method, arguments in (
        (source, "publish", {"count": 0}),
        *((sink, "received", {}) for sink in sinks),
    ):
        while True:
            try:
                await client.call(service, method, arguments, timeout=2)
                break
            except MeshError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_POLL_SECONDS)


async def _publish(client: RpcClient, source: str, sinks: tuple[str, ...], count: int) -> float:
    """Publish events. Return the seconds from the commit, or the first publish, to the last event handled."""
    before = {sink: (await client.call(sink, "received"))[0] for sink in sinks}
    began = time.time()
    await client.call(source, "publish", {"count": count})
    committed = time.time() if source == "outbox_source" else began
    last = committed
    for sink in sinks:
        while True:
            received, at = await client.call(sink, "received")
            if received - before[sink] >= count:
                last = max(last, at)
                break
            await asyncio.sleep(_POLL_SECONDS)
    return last - committed
