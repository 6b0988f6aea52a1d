"""R9 and R10: products says no, says nothing, or hears of the cancel before it hears of the order."""

from __future__ import annotations

import asyncio

from tests.chaos.load import Load, while_ordering
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of
from tests.waiting import eventually_in_thread

TOO_SLOW = 3.0
"""Seconds: longer than orders waits for products, and than the gateway waits for orders."""
STEPS = {
    "products.reserve_stocks.before": ("unavailable", "raise", f"sleep={TOO_SLOW}", "exit"),
    "products.commit.before": ("raise",),
    "products.commit.after": ("raise", f"sleep={TOO_SLOW}", "exit"),
    "products.reserve_stocks.after": ("unavailable", "raise", f"sleep={TOO_SLOW}"),
    "products.reply.before": ("raise", f"sleep={TOO_SLOW}"),
    "products.reply.after": ("exit",),
    "orders.commit.after": ("raise", "exit"),
}
SLOW = 1.2
"""Seconds: not too long yet, and long enough for the event of a cancel to come first."""
SOON = 60.0


@row(
    "R9",
    load="products refuses, breaks or times out at every step, 3 times each; giving back fails ten times",
    passes="stock back to the unit, no order stuck",
    control="no-sweeper",
    sabotaged="orders",
)
async def products_says_no(stage: Stage) -> None:
    times, failures = stage.choose((3, 10), (1, 3))
    steps = [(point, action) for point, actions in STEPS.items() for action in actions] * times
    if stage.is_short:
        steps = [step for step in steps if step[1] != "exit"][:6]
    products = await stage.shop.stock_up(100, 100)

    async def break_each_step() -> None:
        for point, action in steps:
            await stage.faults.hit(point, action)

    # Half of the customers give up at once: whoever asks again drives the order on, nobody else may.
    for patience in (0.0, 60.0):
        load = Load(products, clients=3, at_least=10, pause=0.3, patience=patience)
        await while_ordering(stage, break_each_step(), load)
    stage.faults.points.arm("products.on_order_cancelled.before", "raise", failures)
    await cancel_everything(stage)
    await eventually_in_thread(
        lambda: not stage.faults.points.armed(), SOON + 10 * failures, "the failures of giving back"
    )
    stage.faults.count("giving back fails", failures)
    await stage.judge()
    left = {product: stage.books.stock[product] for product in products}
    stage.expect(set(left.values()) == {100}, f"all is cancelled, but {left} are on hand")


async def cancel_everything(stage: Stage) -> None:
    accounts = {account.user_id: account for account in stage.shop.cast.customers}
    books = await asyncio.to_thread(stage.look)
    await all_of(
        stage.shop.cancel(order.order_id, accounts[order.user_id])
        for order in books.orders.values()
        if order.status == "confirmed"
    )


@row(
    "R10",
    load="products is frozen past the deadline, or hangs while it reserves; the order is cancelled first",
    passes="no unit leaks",
    control="no-tombstone",
    sabotaged="products",
)
async def cancelled_before_reserved(stage: Stage) -> None:
    rounds, orders, overtaken = stage.choose((5, 5, 2), (1, 3, 1))
    (product,) = await stage.shop.stock_up(1000)
    for _ in range(rounds):
        async with stage.faults.frozen(*stage.mesh.instances("products")):
            await _place_and_cancel(stage, product, orders)
        await stage.mesh_is_ready()
        for _ in range(orders):  # one by one: those that come together would be one call
            stage.faults.points.arm("products.reserve_stocks.before", f"sleep={2 * TOO_SLOW}")
            await _place_and_cancel(stage, product, 1)
            await eventually_in_thread(lambda: not stage.faults.points.armed(), SOON, "the slow reservation")
            stage.faults.count("reserve hangs")
        for _ in range(overtaken):
            await _cancel_first(stage, product)
            stage.faults.count("reserve overtaken")
    await asyncio.sleep(2 * TOO_SLOW)  # the last of them goes on now; nothing tells when it has
    await stage.judge()
    on_hand = stage.books.stock[product]
    stage.expect(on_hand == 1000, f"1000 put in and every order cancelled, but {on_hand} on hand")


async def _place_and_cancel(stage: Stage, product: str, orders: int) -> None:
    async def one() -> None:
        account = stage.rng.choice(stage.shop.cast.customers)
        attempt = await stage.shop.order([(product, 1)], account, patience=0)
        while attempt.status not in (201, 202):
            attempt = await stage.shop.order([(product, 1)], account, attempt.key, patience=0)
        await stage.shop.cancel(attempt.order_id, account)

    await all_of(one() for _ in range(orders))


async def _cancel_first(stage: Stage, product: str) -> None:
    """Cancel a pending order just as products is asked again: what it reserves then, it has to give back, or
    never take."""
    account = stage.rng.choice(stage.shop.cast.customers)
    stage.faults.points.arm("products.reserve_stocks.before", "unavailable")
    attempt = await stage.shop.order([(product, 1)], account, patience=0)
    stage.expect(attempt.status == 202, f"products said nothing, but the answer was {attempt.status}")
    await stage.faults.hit("products.reserve_stocks.before", f"sleep={SLOW}")
    await stage.shop.cancel(attempt.order_id, account)
