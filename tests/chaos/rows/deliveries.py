"""R8 and R14: events that come thrice and shuffled, and events that must not be missed."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from typing import Any

from tests.chaos.books import envelopes, users_and_copies
from tests.chaos.load import Load, rename, while_ordering
from tests.chaos.mutants import DIVERTED
from tests.chaos.rows import row
from tests.chaos.stage import Stage
from tests.waiting import eventually_in_thread

SOON = 60.0
TIMES = 3


@row(
    "R8",
    load="every event of orders and users three times, shuffled, delayed up to 10 s",
    passes="the state of an in-order run: stock, mails, and copies of customers",
    control="newest-unchecked",
    sabotaged="orders",
)
async def three_times_and_shuffled(stage: Stage) -> None:
    orders, longest_delay = stage.choose((100, 10.0), (20, 2.0))
    products = await stage.shop.stock_up(1000, 1000)
    mutants = stage.faults.points.mutants()
    with stage.faults.broker.queue(DIVERTED):
        stage.faults.points.set_mutants(*mutants, "diverted")
        await asyncio.to_thread(stage.mesh.restart, ("orders", "users"))
        try:
            load = Load(products, clients=5, at_least=orders, pause=0.1, cancelled=0.5)
            await while_ordering(stage, _renames(stage, 3 * orders // 10), load)
            await _deliver(stage, longest_delay)
        finally:
            stage.faults.points.set_mutants(*mutants)
            await asyncio.to_thread(stage.mesh.restart, ("orders", "users"))
    await stage.judge()
    await eventually_in_thread(
        lambda: _copies_agree(stage) or stage.faults.points.mutants(), SOON, "the copies of customers"
    )
    wrong = _copies_that_differ(stage)
    stage.expect(not wrong, f"orders knows customers otherwise than users does: {wrong[:3]}")


async def _renames(stage: Stage, times: int) -> None:
    for _ in range(times):
        await rename(stage)


async def _deliver(stage: Stage, longest_delay: float) -> None:
    """Each event that the relays have given us, when they have no more: thrice, at random moments."""
    held: list[Any] = []

    def nothing_is_left() -> bool:
        held.extend(stage.faults.broker.receive(DIVERTED))
        return not any(stage.look().unsent_events[name] for name in ("orders", "users"))

    await eventually_in_thread(nothing_is_left, SOON, "the relays having sent all")
    held += await asyncio.to_thread(stage.faults.broker.receive, DIVERTED)
    due = sorted(
        ((stage.rng.uniform(0, longest_delay), stage.rng.random(), one) for one in held * TIMES),
        key=lambda at: at[:2],
    )
    began = time.monotonic()
    with stage.faults.broker.channel() as channel:
        for at, _, one in due:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            kind = one.payload["type"]
            stage.faults.broker.publish(
                channel,
                one.body,
                kind,
                f"{kind.partition('_')[0]}s.events",
                content_type=one.content_type,
                content_encoding=one.content_encoding,
                delivery_mode=2,
            )
    stage.faults.count("event delivered out of order", len(due))


def _copies_that_differ(stage: Stage) -> list[str]:
    ours = {account.user_id for account in stage.shop.cast.customers}
    users, copies = users_and_copies(stage.mesh, ours)
    return [
        f"{one}: {users[one]}, copied as {copies.get(one)}" for one in users if copies.get(one) != users[one]
    ]


def _copies_agree(stage: Stage) -> bool:
    return not _copies_that_differ(stage)


LAG_SECONDS = 45.0


@row(
    "R14",
    load="two relays, kill -9'd 20 times in all, while orders publishes 1,000 events",
    passes="none missing, duplicates absorbed, the order kept in each order, the outbox empty soon after",
    control="sent-before-published",
    sabotaged="orders",
)
async def relays_die(stage: Stage) -> None:
    kills, orders = stage.choose((20, 420), (3, 60))
    products = await stage.shop.stock_up(5000, 5000)
    relays = stage.mesh.instances("orders")
    name = f"chaos-listener-{uuid.uuid4().hex}"
    with stage.faults.broker.queue(name, "orders.events"):

        async def kill_them() -> None:
            for number in range(kills):
                # In the middle of a batch, if it can be had: the next publish after an order.
                await stage.faults.hit("orders.publish.before", "sleep=0.2")
                await stage.faults.kill(relays[number % len(relays)])

        load = Load(products, clients=8, at_least=orders, pause=0.5, cancelled=0.5)
        await while_ordering(stage, kill_them(), load)
        await stage.judge()
        heard = [message.payload for message in await asyncio.to_thread(stage.faults.broker.receive, name)]
    _all_were_heard(stage, heard)


def _all_were_heard(stage: Stage, heard: list[dict[str, Any]]) -> None:
    sent = {
        one["event_id"]
        for one in envelopes(stage.mesh, "orders")
        if one["aggregate_id"] in stage.books.orders
    }
    received = Counter(one["event_id"] for one in heard)
    missing = sent - set(received)
    stage.expect(not missing, f"{len(missing)} of {len(sent)} events were never published")
    versions: dict[str, list[int]] = {}
    for one in heard:
        seen = versions.setdefault(one["aggregate_id"], [])
        if one["aggregate_version"] not in seen:
            seen.append(one["aggregate_version"])
    shuffled = {order_id: seen for order_id, seen in versions.items() if seen != sorted(seen)}
    heard_of = [
        (place, one["type"], one["aggregate_version"], one["occurred_at"])
        for place, one in enumerate(heard)
        if one["aggregate_id"] in shuffled
    ]
    stage.expect(
        not shuffled, f"{len(shuffled)} orders had their events published out of order: {heard_of[:10]}"
    )
    stage.figures["events"] = len(sent)
    stage.figures["published more than once"] = sum(1 for one in sent if received[one] > 1)
