"""R9 and R10: products refuses, fails, hangs, or receives the cancellation before the reservation."""

from __future__ import annotations

import asyncio

from tests.chaos.load import Load, while_ordering
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of
from tests.waiting import eventually_in_thread

TOO_SLOW_SECONDS = 3.0
"""Longer than the deadline of the calls to products and orders."""
STEPS = {
    "products.reserve_stocks.before": ("unavailable", "raise", f"sleep={TOO_SLOW_SECONDS}", "exit"),
    "products.commit.before": ("raise",),
    "products.commit.after": ("raise", f"sleep={TOO_SLOW_SECONDS}", "exit"),
    "products.reserve_stocks.after": ("unavailable", "raise", f"sleep={TOO_SLOW_SECONDS}"),
    "products.reply.before": ("raise", f"sleep={TOO_SLOW_SECONDS}"),
    "products.reply.after": ("exit",),
    "orders.commit.after": ("raise", "exit"),
}
SLOW_SECONDS = 1.2
"""Within the deadline, and long enough for the event of a cancellation to arrive first."""
SOON = 60.0


@row(
    "R9",
    load="products refuses, fails or times out 3 times at every step; releasing stock fails 10 times",
    passes="all stock is back, no order is stuck",
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

    # In the first half no client retries, because a retry would complete the order.
    for patience in (0.0, 60.0):
        load = Load(products, clients=3, at_least=10, pause=0.3, patience=patience)
        await while_ordering(stage, break_each_step(), load)
    stage.faults.points.arm("products.on_order_cancelled.before", "raise", failures)
    await cancel_everything(stage)
    await eventually_in_thread(
        lambda: not stage.faults.points.armed(), SOON + 10 * failures, "the failures of releasing stock"
    )
    stage.faults.count("failed release", failures)
    await stage.judge()
    left = {product: stage.books.stock[product] for product in products}
    stage.expect(set(left.values()) == {100}, f"every order is cancelled, but {left} are on hand")


async def cancel_everything(stage: Stage) -> None:
    accounts = {account.user_id: account for account in stage.shop.cast.customers}
    books = await asyncio.to_thread(stage.read_books)
    await all_of(
        stage.shop.cancel(order.order_id, accounts[order.user_id])
        for order in books.orders.values()
        if order.status == "confirmed"
    )


@row(
    "R10",
    load="products freezes past the deadline or hangs in a reservation; the order is cancelled first",
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
        for _ in range(orders):  # in sequence, because concurrent orders would share a call
            stage.faults.points.arm("products.reserve_stocks.before", f"sleep={2 * TOO_SLOW_SECONDS}")
            await _place_and_cancel(stage, product, 1)
            await eventually_in_thread(lambda: not stage.faults.points.armed(), SOON, "the slow reservation")
            stage.faults.count("hanging reservation")
        for _ in range(overtaken):
            await _cancel_first(stage, product)
            stage.faults.count("overtaken reservation")
    await asyncio.sleep(
        2 * TOO_SLOW_SECONDS
    )  # the last reservation is still running, and nothing reports its end
    await stage.judge()
    on_hand = stage.books.stock[product]
    stage.expect(on_hand == 1000, f"1000 put in and every order cancelled, but {on_hand} on hand")


async def _place_and_cancel(stage: Stage, product: str, orders: int) -> None:
    async def place_and_cancel() -> None:
        account = stage.rng.choice(stage.shop.cast.customers)
        attempt = await stage.shop.order([(product, 1)], account, patience=0)
        while attempt.status not in (201, 202):
            attempt = await stage.shop.order([(product, 1)], account, attempt.key, patience=0)
        await stage.shop.cancel(attempt.order_id, account)

    await all_of(place_and_cancel() for _ in range(orders))


async def _cancel_first(stage: Stage, product: str) -> None:
    """Cancel a pending order during a repeated reservation, which products then has to release or refuse."""
    account = stage.rng.choice(stage.shop.cast.customers)
    stage.faults.points.arm("products.reserve_stocks.before", "unavailable")
    attempt = await stage.shop.order([(product, 1)], account, patience=0)
    stage.expect(attempt.status == 202, f"products was unavailable, but the response was {attempt.status}")
    await stage.faults.hit("products.reserve_stocks.before", f"sleep={SLOW_SECONDS}")
    await stage.shop.cancel(attempt.order_id, account)
