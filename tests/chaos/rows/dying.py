"""R1, R3, R4, R15: processes that end under load: killed, at an exact line, or by SIGTERM."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.chaos.load import Load, Progress, rename, while_ordering
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of, at_once
from tests.waiting import eventually_in_thread

SERVICES = ("products", "orders", "users", "notifications")
LIFE_SECONDS = 3.0
"""A process is killed within this time after it is ready, so that it dies at work."""
PATIENCE_SECONDS = 180.0


@row(
    "R1",
    load="40 clients place 200 orders for the last 50 units; kill -9 each service 20 times, the gateway 5",
    passes="exactly 50 confirmed, none lost, none doubled, all ended 30 s after the last kill",
    control="stock-check-off",
    sabotaged="products",
)
async def kills_everywhere(stage: Stage) -> None:
    orders, clients, kills = stage.choose((200, 40, 20), (60, 20, 1))
    units = orders // 4
    victims = {**dict.fromkeys(SERVICES, kills), "gateway": -(-kills // 4)}
    (product,) = await stage.shop.stock_up(units)
    killing = Progress()

    async def killer(service: str, times: int) -> None:
        names = stage.mesh.instances(service)
        # Kills of the gateway are far apart, because a gateway that is never up tests nothing.
        interval = len(victims) * (kills / times - 1)
        for number in range(times):
            await killing.reaches(number * interval)
            await stage.faults.wait_until_up(names[number % len(names)])
            await asyncio.sleep(stage.rng.uniform(0, LIFE_SECONDS))
            await stage.faults.kill(names[number % len(names)])
            await killing.advance()

    async def client(number: int) -> None:
        count = len(range(number, orders, clients))
        for position in range(count):
            # Orders are spread over all kills, because these take longer on a slow machine.
            await killing.reaches(sum(victims.values()) * position / count)
            await asyncio.sleep(stage.rng.uniform(0, 1))
            await stage.shop.order([(product, 1)], patience=PATIENCE_SECONDS)

    killers = [killer(service, times) for service, times in victims.items()]
    await all_of([*killers, *(client(number) for number in range(clients))])
    await stage.judge()
    sold = sum(order.status == "confirmed" for order in stage.books.orders.values())
    stage.expect(sold == units, f"{sold} orders are confirmed, not {units}")


EXIT_POINTS = [
    f"{service}.{boundary}.{side}"
    for service, boundaries in {
        "products": ("commit", "relay", "publish", "reply", "ack", "on_order_cancelled"),
        "orders": ("commit", "relay", "publish", "reply", "ack"),
        "users": ("commit", "relay", "publish", "reply", "ack"),
        "notifications": ("commit", "ack", "on_order_confirmed"),
    }.items()
    for boundary in boundaries
    for side in ("before", "after")
]
SHORT_EXIT_POINTS = (
    "products.commit.after",
    "products.ack.before",
    "orders.commit.before",
    "orders.publish.after",
    # Three exits before handlers, because a dying process sometimes loses the early acks of the mutant.
    "notifications.on_order_confirmed.before",
    "notifications.on_order_confirmed.before",
    "products.on_order_cancelled.before",
)


@row(
    "R3",
    load="orders, cancels, renames; each service exits 5 times at every commit, publish, reply and ack",
    passes="every invariant holds, all orders ended in 30 s",
    control="ack-before-handling",
    sabotaged="products notifications orders",
)
async def exits_at_every_boundary(stage: Stage) -> None:
    points, times = stage.choose((EXIT_POINTS, 5), (SHORT_EXIT_POINTS, 1))
    exits = [point for point in points for _ in range(times)]
    stage.rng.shuffle(exits)
    products = await stage.shop.stock_up(1000, 1000, 1000)

    async def exit_one_by_one(service: str) -> None:
        names = stage.mesh.instances(service)
        for point in (point for point in exits if point.startswith(f"{service}.")):
            await all_of(stage.faults.wait_until_up(name) for name in names)
            await all_of([stage.faults.hit(point, "exit"), *([rename(stage)] if service == "users" else [])])

    load = Load(products, clients=6, at_least=len(exits), cancelled=0.5)
    await while_ordering(stage, at_once(exit_one_by_one(service) for service in SERVICES), load)
    await stage.judge()


HOT = {"orders": "place_orders", "products": "reserve_stocks"}
SLOW_SECONDS = 1.2
EXIT_SECONDS = 30


@row(
    "R4",
    load="20 rolling SIGTERM restarts of two instances at 20 requests/s, each during a slow call",
    passes="no 5xx after a client's retry, nothing executed twice, exit in 30 s",
    control="no-drain",
    sabotaged="orders products",
)
async def rolling_restarts(stage: Stage) -> None:
    restarts = stage.choose(20, 2)
    products = await stage.shop.stock_up(10_000, 10_000)
    before = len(stage.faults.points.executions())
    exits: list[float] = []

    async def roll() -> None:
        for number in range(restarts):
            service = ("orders", "products", "notifications")[number % 3] if not stage.is_short else "orders"
            name = stage.mesh.instances(service)[number // 3 % 2]
            if service in HOT:
                pid = await stage.faults.hit(f"{service}.{HOT[service]}.before", f"sleep={SLOW_SECONDS}")
                name = next(process.name for process in stage.mesh.processes() if process.pid == pid)
            exits.append(await stage.faults.terminate(name))
            await stage.faults.wait_until_up(name)

    async def read() -> None:
        while len(exits) < restarts:
            status, _ = await stage.shop.read(f"/products/{stage.rng.choice(products)}")
            if status >= 500 or status == 0:  # retry once, as a client would
                status, _ = await stage.shop.read(f"/products/{products[0]}")
            stage.expect(status == 200, f"the retried read of a product was answered {status}")
            await asyncio.sleep(0.1)

    load = Load(products, clients=6, at_least=20, pause=0.8, cancelled=0.2)
    await while_ordering(stage, at_once([roll(), read()]), load)
    await stage.judge()
    calls = Counter(stage.faults.points.executions()[before:])
    twice = [f"{method} ({times} times)" for (method, _), times in calls.items() if times > 1]
    stage.expect(not twice, f"executed more than once: {', '.join(twice[:5])}")
    stage.expect(max(exits) <= EXIT_SECONDS, f"an exit took {max(exits):.0f} s, not {EXIT_SECONDS} at most")
    for attempts in stage.history.by_key().values():
        last = attempts[-1]
        stage.expect(last.status in (201, 409), f"key {last.key}: {last.status} after all retries")
    stage.figures["slowest exit"] = f"{max(exits):.1f} s"
    stage.figures["executions"] = calls.total()


EXITS_IN_A_ROW = 6
EXITS_TIMEOUT_SECONDS = 90.0


@row(
    "R15",
    load="5 times, orders exits 6 times in a row before it commits reserved orders; no client retries",
    passes="every order with reserved stock is recorded 30 s after the last exit",
    control="no-completion",
    sabotaged="orders",
)
async def dies_with_the_stock_reserved(stage: Stage) -> None:
    times = stage.choose(5, 1)
    products = await stage.shop.stock_up(1000, 1000)

    async def exit_again_and_again() -> None:
        for _ in range(times):
            await all_of(stage.faults.wait_until_up(name) for name in stage.mesh.instances("orders"))
            # The broker redelivers the call to the next instance until the call's deadline.
            stage.faults.points.arm("orders.commit.before", "exit", EXITS_IN_A_ROW)
            await eventually_in_thread(
                lambda: not stage.faults.points.armed(), EXITS_TIMEOUT_SECONDS, "the exits of orders"
            )
            stage.faults.count("exit at orders.commit.before", EXITS_IN_A_ROW)

    load = Load(products, clients=4, at_least=times, pause=0.3, patience=0)
    await while_ordering(stage, exit_again_and_again(), load)
    await stage.judge()
