"""R7, R8, R14: messages that are hostile, that come thrice and shuffled, that must not be missed."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from typing import Any

from tests.chaos.books import envelopes, users_and_copies
from tests.chaos.broker import DEAD
from tests.chaos.faults import until
from tests.chaos.load import Load, rename, while_ordering
from tests.chaos.mutants import DIVERTED
from tests.chaos.poison import LETHAL_LIVES, Poison, corpus, fuzz
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of

ANSWER_SECONDS = 15.0
SOON = 60.0
KILLER = "evt-orders-order_confirmed--notifications.on_order_confirmed"


@row(
    "R7",
    load="the poison corpus and 1,000 fuzzed messages, live and waiting at the start; one that kills",
    passes="valid calls answered in 15 s; each poison answered or parked; no process dies of one, no zombie",
    control="headers-trusted",
    sabotaged="products orders users notifications",
)
async def poison_everywhere(stage: Stage) -> None:
    fuzzed = stage.choose(1000, 150)
    (product,) = await stage.shop.stock_up(1000)
    before = await asyncio.to_thread(_pids, stage)
    with stage.faults.broker.queue(f"chaos-answers-{uuid.uuid4().hex}", "nameko-rpc") as answers:
        await asyncio.to_thread(_poison, stage, [*corpus(answers), *fuzz(stage.rng, fuzzed)])
        await _valid_calls_are_answered(stage, product, "among live poison")
        await _poison_is_settled(stage, answers)
    after = await asyncio.to_thread(_pids, stage)
    stage.expect(after == before, f"processes died of live poison: {_changed(before, after)}")
    await _poison_waits_at_the_start(stage, product, fuzzed)
    if not stage.is_short:
        await _an_event_kills(stage)
    stage.meant_to_be_parked |= {one.name for one in stage.faults.broker.queues() if one.name.endswith(DEAD)}
    await stage.judge()
    await asyncio.to_thread(stage.faults.broker.purge, stage.meant_to_be_parked)


def _poison(stage: Stage, poisons: list[Poison]) -> None:
    with stage.faults.broker.channel() as channel:
        for one in poisons:
            stage.faults.broker.publish(
                channel, one.body, one.routing_key, one.exchange, one.headers, **one.properties
            )
    stage.faults.count("poison", len(poisons))


async def _valid_calls_are_answered(stage: Stage, product: str, when: str) -> None:
    began = time.monotonic()
    await all_of(stage.shop.order([(product, 1)]) for _ in range(5))
    took = time.monotonic() - began
    stage.expect(took <= ANSWER_SECONDS, f"valid orders took {took:.0f} s {when}")
    stage.figures[f"orders {when}"] = f"{took:.1f} s"


async def _poison_is_settled(stage: Stage, answers: str) -> None:
    """Who has a reply address gets an error, each exactly one; the queues come to rest."""
    expected = Counter(one.properties["correlation_id"] for one in corpus(answers) if one.is_answered)
    got: Counter[str] = Counter()

    def all_answered() -> bool:
        for message in stage.faults.broker.receive(answers):
            got[str(message.properties.get("correlation_id"))] += 1
        return all(got[one] for one in expected)

    try:
        await until(all_answered, SOON, "an answer to each poison that has a reply address")
    except TimeoutError:
        silent = [one for one in expected if not got[one]]
        stage.findings.append(f"never answered: {', '.join(silent)}")
    at_rest = [one.name for one in stage.faults.broker.queues() if one.is_consumed]

    def settled() -> bool:
        now = {one.name: one.messages for one in stage.faults.broker.queues()}
        return not any(now.get(name) for name in at_rest) and not any(
            count for name, count in now.items() if name.endswith(".retry")
        )

    await until(settled, SOON, "the end of all retries")
    parked = sum(one.messages for one in stage.faults.broker.queues() if one.name.endswith(DEAD))
    due = sum(1 for one in corpus(answers) if one.is_parked)
    stage.expect(parked >= due, f"{parked} messages are parked, not {due} at least")
    stage.figures["parked"] = parked


async def _poison_waits_at_the_start(stage: Stage, product: str, fuzzed: int) -> None:
    names = [name for service in ("orders", "products") for name in stage.mesh.instances(service)]
    async with stage.faults.stopped(*names):
        await asyncio.to_thread(_poison, stage, [*corpus("nobody"), *fuzz(stage.rng, fuzzed)])
    await all_of(stage.faults.wait_until_up(name) for name in names)
    await _valid_calls_are_answered(stage, product, "after a start with poison waiting")
    zombies = await asyncio.to_thread(stage.mesh.unready)
    stage.expect(not zombies, f"not ready after a start with poison waiting: {zombies}")


async def _an_event_kills(stage: Stage) -> None:
    """A message of which the process dies, each time it is given out, until it is parked."""
    before = len(stage.faults.points.hits("notifications.on_order_confirmed.before"))
    stage.faults.points.arm("notifications.on_order_confirmed.before", "exit", LETHAL_LIVES)
    event = json.dumps({"event_id": str(uuid.uuid4()), "data": {}, "type": "order_confirmed"})
    lethal = Poison(KILLER, event, "", {"content_type": "application/json", "content_encoding": "utf-8"})
    parked_before = _parked(stage)
    await asyncio.to_thread(_poison, stage, [lethal])
    await until(lambda: _parked(stage) > parked_before, 5 * SOON, "the lethal event being parked")
    deaths = len(stage.faults.points.hits("notifications.on_order_confirmed.before")) - before
    stage.figures["deaths of the lethal event"] = deaths
    stage.faults.points.disarm()


def _parked(stage: Stage) -> int:
    return sum(one.messages for one in stage.faults.broker.queues() if one.name == f"{KILLER}{DEAD}")


def _pids(stage: Stage) -> dict[str, int]:
    return {one.name: one.pid for one in stage.mesh.processes()}


def _changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name, pid in before.items() if after.get(name) != pid]


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
    await until(
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

    await until(nothing_is_left, SOON, "the relays having sent all")
    held += await asyncio.to_thread(stage.faults.broker.receive, DIVERTED)
    due = sorted(
        ((stage.rng.uniform(0, longest_delay), stage.rng.random(), one) for one in held * TIMES),
        key=lambda at: at[:2],
    )
    began = time.monotonic()
    with stage.faults.broker.channel() as channel:
        for at, _, one in due:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            stage.faults.broker.publish(
                channel,
                one.body,
                one.headers["x-type"],
                one.headers["x-exchange"],
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
    shuffled = [order_id for order_id, seen in versions.items() if seen != sorted(seen)]
    stage.expect(not shuffled, f"{len(shuffled)} orders had their events published out of order")
    stage.figures["events"] = len(sent)
    stage.figures["published more than once"] = sum(1 for one in sent if received[one] > 1)
