"""R1, R3, R4: processes that die under load, anywhere, at an exact line, and in good order."""

from __future__ import annotations

import asyncio

from tests.chaos.faults import until
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of

SERVICES = ("products", "orders", "users", "notifications", "gateway")
KILLING_SECONDS = 900


@row(
    "R1",
    load="200 orders for the last 50 units by 40 clients; each service kill -9'd 20 times",
    passes="exactly 50 confirmed, none lost, none doubled, all terminal 30 s after the last kill",
    control="stock-check-off",
    sabotaged="products",
)
async def kills_everywhere(stage: Stage) -> None:
    orders, clients, kills = stage.choose((200, 40, 20), (60, 20, 1))
    units = 50 if not stage.is_short else 15
    (product,) = await stage.shop.stock_up(units)
    done = 0

    async def killer(service: str) -> None:
        nonlocal done
        names = stage.mesh.instances(service)
        for number in range(kills):
            await asyncio.sleep(stage.rng.uniform(0, 1))
            await stage.faults.kill(names[number % len(names)])
            done += 1

    async def client(number: int) -> None:
        mine = range(number, orders, clients)
        for position, _ in enumerate(mine):
            # Spread over the whole time of the killing, however long this machine takes for it.
            quota = kills * len(SERVICES) * position / len(mine)
            await until(lambda quota=quota: done >= quota, KILLING_SECONDS, "the killing")
            await asyncio.sleep(stage.rng.uniform(0, 1))
            await stage.shop.order([(product, 1)])

    await all_of([*(killer(service) for service in SERVICES), *(client(one) for one in range(clients))])
    await stage.judge()
    answers = stage.history.by_key().values()
    confirmed = sum(1 for attempts in answers if any(one.status == 201 for one in attempts))
    stage.expect(confirmed == units, f"{confirmed} orders were answered 201, not {units}")
