"""R2 and R11: many customers order the same concurrently, and no process fails."""

from __future__ import annotations

import asyncio
from statistics import quantiles

from tests.chaos.cast import Account
from tests.chaos.history import Attempt, Items
from tests.chaos.reader import reading, reads
from tests.chaos.rows import row
from tests.chaos.servers import deadlocks
from tests.chaos.stage import Stage, all_of

CONCURRENT_ORDERS = 40
SENT_TIMES = 5


@row(
    "R2",
    load="500 orders, a tenth of them sent five times concurrently under the same key",
    passes="one order per key; a replay gets the same bytes; another body is answered 422",
    control="no-unique-key",
    sabotaged="orders",
)
async def the_same_key_again(stage: Stage) -> None:
    orders = stage.choose(500, 60)
    products = await stage.shop.stock_up(2000, 2000)
    gate = asyncio.Semaphore(CONCURRENT_ORDERS)

    async def place(number: int) -> None:
        account = stage.rng.choice(stage.shop.cast.customers)
        items = [(stage.rng.choice(products), stage.rng.randint(1, 3))]
        key = stage.shop.new_key()
        async with gate:
            sent = [
                stage.shop.order(items, account, key) for _ in range(SENT_TIMES if number % 10 == 0 else 1)
            ]
            answers = await all_of(sent)
        if number % 10 == 0:
            await _replays(stage, account, items, key, answers)

    await all_of(place(number) for number in range(orders))
    stage.faults.are_over()
    await stage.judge()


async def _replays(stage: Stage, account: Account, items: Items, key: str, answers: list[Attempt]) -> None:
    stage.faults.count(f"order sent {SENT_TIMES} times concurrently")
    bodies = {attempt.body for attempt in answers if attempt.status == 201}
    statuses = [attempt.status for attempt in answers]
    stage.expect(len(bodies) == 1, f"key {key}: {statuses}, {len(bodies)} different bodies 201")
    replay = await stage.shop.order(items, account, key)
    stage.expect({replay.body} == bodies, f"key {key}: its replay is {replay.status} {replay.body}")
    status, code = await stage.shop.reuse_key([(items[0][0], items[0][1] + 1)], account, key)
    is_refused = (status, code) == (422, "idempotency-key-reused")
    stage.expect(is_refused, f"key {key}: another body was answered {status} {code}")


FAST_SECONDS = 1.0
SHORT_FORM_SECONDS = 5.0
"""The short form may run beside other tests, so it only tells slow reads from stuck ones."""


@row(
    "R11",
    load="200 concurrent orders of one product, 200 of two in opposite sequence; reads of another",
    passes="no oversell, no deadlock, 95 of 100 unrelated reads within a second",
    control="no-lock",
    sabotaged="products",
)
async def everybody_at_once(stage: Stage) -> None:
    crowd, units = stage.choose((200, 50), (100, 25))
    hot, first, second, unrelated = await stage.shop.stock_up(units, 10_000, 10_000, 1)
    crossing = stage.rng.sample([((first, 1), (second, 1)), ((second, 1), (first, 1))] * (crowd // 2), crowd)
    before = await asyncio.to_thread(deadlocks, stage.mesh)
    output = stage.folder / "reads.txt"
    with reading(f"{stage.mesh.gateway_url}/products/{unrelated}", output):
        await all_of(stage.shop.order([(hot, 1)]) for _ in range(crowd))
        await all_of(stage.shop.order(items) for items in crossing)
    stage.faults.are_over()
    await stage.judge()
    sold = sum(order.status == "confirmed" and hot in order.items for order in stage.books.orders.values())
    stage.expect(sold == units, f"{sold} of {units} units were sold")
    new_deadlocks = await asyncio.to_thread(deadlocks, stage.mesh) - before
    stage.expect(new_deadlocks == 0, f"{new_deadlocks} deadlocks in the database")
    _reads_were_fast(stage, reads(output))


def _reads_were_fast(stage: Stage, read: list[tuple[int, float]]) -> None:
    failed = [status for status, _ in read if status != 200]
    stage.expect(not failed, f"{len(failed)} unrelated reads were answered {failed[:3]}")
    slowest = quantiles([seconds for _, seconds in read], n=20, method="inclusive")[-1]
    fast = stage.choose(FAST_SECONDS, SHORT_FORM_SECONDS)
    stage.expect(slowest <= fast, f"95 of 100 unrelated reads took up to {slowest:.2f} s")
    stage.figures[f"95% of {len(read)} unrelated reads within"] = f"{slowest:.2f} s"
