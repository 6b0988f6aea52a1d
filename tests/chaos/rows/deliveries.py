"""R8 and R14: events delivered three times and out of order, and relays that die."""

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
    load="deliver every event of orders and users three times, shuffled, up to 10 s late",
    passes="stock, mails and copies of customers are as after a run in order",
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
    different = _copies_that_differ(stage)
    stage.expect(not different, f"copies of customers in orders differ from users: {different[:3]}")


async def _renames(stage: Stage, times: int) -> None:
    for _ in range(times):
        await rename(stage)


async def _deliver(stage: Stage, longest_delay: float) -> None:
    """Wait until the relays have sent all events, and deliver each three times at random moments."""
    events: list[Any] = []

    def nothing_is_left() -> bool:
        events.extend(stage.faults.broker.receive(DIVERTED))
        return not any(stage.read_books().unsent_events[name] for name in ("orders", "users"))

    await eventually_in_thread(nothing_is_left, SOON, "the relays sending all events")
    events += await asyncio.to_thread(stage.faults.broker.receive, DIVERTED)
    due = sorted(
        ((stage.rng.uniform(0, longest_delay), stage.rng.random(), event) for event in events * TIMES),
        key=lambda at: at[:2],
    )
    began = time.monotonic()
    with stage.faults.broker.channel() as channel:
        for at, _, event in due:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            kind = event.payload["type"]
            stage.faults.broker.publish(
                channel,
                event.body,
                kind,
                f"{kind.partition('_')[0]}s.events",
                content_type=event.content_type,
                content_encoding=event.content_encoding,
                delivery_mode=2,
            )
    stage.faults.count("event delivered out of order", len(due))


def _copies_that_differ(stage: Stage) -> list[str]:
    user_ids = {account.user_id for account in stage.shop.cast.customers}
    users, copies = users_and_copies(stage.mesh, user_ids)
    return [
        f"{user_id}: {user}, copied as {copies.get(user_id)}"
        for user_id, user in users.items()
        if copies.get(user_id) != user
    ]


def _copies_agree(stage: Stage) -> bool:
    return not _copies_that_differ(stage)


@row(
    "R14",
    load="kill -9 two relays 20 times in all, while orders publishes 1,000 events",
    passes="no event missing, duplicates absorbed, events of an order in sequence, outbox empty soon after",
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
                # Kill it in the middle of a batch, during the next publish after an order.
                await stage.faults.hit("orders.publish.before", "sleep=0.2")
                await stage.faults.kill(relays[number % len(relays)])

        load = Load(products, clients=8, at_least=orders, pause=0.5, cancelled=0.5)
        await while_ordering(stage, kill_them(), load)
        await stage.judge()
        received = [message.payload for message in await asyncio.to_thread(stage.faults.broker.receive, name)]
    _check_received(stage, received)


def _check_received(stage: Stage, received: list[dict[str, Any]]) -> None:
    sent = {
        event["event_id"]
        for event in envelopes(stage.mesh, "orders")
        if event["aggregate_id"] in stage.books.orders
    }
    times = Counter(event["event_id"] for event in received)
    missing = sent - set(times)
    stage.expect(not missing, f"{len(missing)} of {len(sent)} events were never published")
    versions: dict[str, list[int]] = {}
    for event in received:
        seen = versions.setdefault(event["aggregate_id"], [])
        if event["aggregate_version"] not in seen:
            seen.append(event["aggregate_version"])
    shuffled = {order_id: seen for order_id, seen in versions.items() if seen != sorted(seen)}
    excerpt = [
        (position, event["type"], event["aggregate_version"], event["occurred_at"])
        for position, event in enumerate(received)
        if event["aggregate_id"] in shuffled
    ]
    stage.expect(
        not shuffled, f"{len(shuffled)} orders had their events published out of order: {excerpt[:10]}"
    )
    stage.figures["events"] = len(sent)
    stage.figures["published more than once"] = sum(1 for event_id in sent if times[event_id] > 1)
