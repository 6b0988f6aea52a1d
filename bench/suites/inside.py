"""Costs inside the mesh: messages per order, memory over many orders, and CPU as the tables grow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from bench import processes
from bench.measure import run
from bench.options import Options
from bench.results import Sample
from bench.servers import CACHE
from bench.stacks.mesh import Mesh, mesh
from bench.stacks.stock import Stock, execute, stock
from bench.wrk import Wrk

CLIENTS = 64
STATISTICS_SECONDS = 12
"""RabbitMQ's management updates its counters every five seconds."""
ORDERS, QUICK_ORDERS = 100_000, 300
STORED, QUICK_STORED = (10_000, 1_000_000), (1_000, 10_000)
STORE_COPIES = Path(__file__).with_name("store_copies.sql").read_text()
SERVERS = ("rabbitmq", "rabbitmq-epmd", "postgresql", "consul")


def messages(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Count messages per order, in the broker's management statistics."""
    facts = {}
    folder = options.folder / "messages"
    with mesh(folder / "mesh", "--management") as ours, stock(folder / "stock", management=True) as theirs:
        brokers = {ours: _management(ours.state.data / "rabbitmq"), theirs: theirs.management_url}
        for stack, url in brokers.items():
            facts |= _count_messages(stack, url, Wrk(CACHE, options.folder), options)
    return [], facts


def _management(data: Path) -> str:
    """Return the URL of the node's management API, from the node's files."""
    settings = dict(line.split(" = ", 1) for line in (data / "rabbitmq.conf").read_text().splitlines())
    user, password = settings["default_user"], settings["default_pass"]
    return f"http://{user}:{password}@127.0.0.1:{settings['management.tcp.port']}"


def _count_messages(stack: Mesh | Stock, url: str, wrk: Wrk, options: Options) -> dict[str, float]:
    def counts() -> dict[str, int]:
        time.sleep(STATISTICS_SECONDS)
        stats = httpx.get(f"{url}/api/overview", timeout=30).json()["message_stats"]
        return {name: stats.get(name, 0) for name in ("publish", "deliver_get")}

    stack.clean()
    before = counts()
    wrk.run(stack.orders(), CLIENTS, options.seconds)
    stack.settle()
    after = counts()
    orders = stack.placed()  # includes orders in flight when wrk stopped
    facts = {
        f"{stack.name}: messages {what} an order, {CLIENTS} clients": (after[name] - before[name]) / orders
        for name, what in (("publish", "published"), ("deliver_get", "delivered"))
    }
    options.say(", ".join(f"{name} {value:.2f}" for name, value in facts.items()))
    return facts


def memory(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure memory (PSS) without the servers: after the start, a tenth of the orders, and all orders."""
    wanted = QUICK_ORDERS if options.quick else ORDERS
    wrk, facts = Wrk(CACHE, options.folder), {}
    with mesh(options.folder / "memory") as stack:

        def measure(when: str) -> dict[str, float]:
            stack.settle()
            used = {
                name: megabytes
                for name, megabytes in processes.memory(stack.roots()).items()
                if name not in SERVERS
            }
            facts[f"MB {when}"] = sum(used.values())
            options.say(f"memory {when}: {sum(used.values()):.0f} MB")
            return used

        measure("after the start")
        placed = 0
        for goal, when in ((wanted // 10, "after a tenth of the orders"), (wanted, "after all orders")):
            while placed < goal:
                responses = wrk.run(stack.orders(), CLIENTS, options.seconds)
                placed += responses.requests - responses.bad
            used = measure(when)
    facts |= {f"MB of {name} after all orders": megabytes for name, megabytes in sorted(used.items())}
    facts["orders"] = placed
    facts["growth"] = facts["MB after all orders"] / facts["MB after a tenth of the orders"]
    return [], facts


def growth(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure the same load with few and with many stored orders, in turns."""
    wrk, samples = Wrk(CACHE, options.folder), []
    sizes = QUICK_STORED if options.quick else STORED
    with mesh(options.folder / "growth") as stack:
        for number in range(options.rounds):
            for size in sizes if number % 2 == 0 else reversed(sizes):
                began = time.monotonic()
                _store(stack, size, wrk)
                options.say(f"{size:,} orders are stored, {time.monotonic() - began:.0f} s")
                name = f"{size:,} orders stored"
                load = stack.orders()
                sample = run("growth", stack, load, wrk, CLIENTS, number, options, label=name, clean=False)
                samples.append(sample)
    return samples, {"few": sizes[0], "many": sizes[1]}


def _store(stack: Mesh, size: int, wrk: Wrk) -> None:
    """Store copies of a real order and its reservation, with new ids and times."""
    stack.clean()
    wrk.run(stack.orders(), 1, 1)
    stack.settle()
    copy_id = "md5(number::text)"
    fields = {"id": copy_id, "created_at": "now() - number * interval '1 second'"}
    _store_copies(stack.database("orders"), "orders", size, fields)
    _store_copies(stack.database("products"), "reservations", size, {"order_id": copy_id})


def _store_copies(url: str, table: str, size: int, fields: Mapping[str, str]) -> None:
    changed = ", ".join(f"'{name}', {expression}" for name, expression in fields.items())
    statement = STORE_COPIES.format(table=table, size=size, changed=changed)
    execute(url, statement, f"VACUUM ANALYZE {table}", "CHECKPOINT")
