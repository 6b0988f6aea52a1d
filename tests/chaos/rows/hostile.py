"""R7: messages that were made to do harm, or that nobody can make sense of."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from contextlib import suppress

from tests.chaos.broker import DEAD, RETRY
from tests.chaos.poison import LETHAL_LIVES, Poison, corpus, fuzz
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of
from tests.waiting import eventually_in_thread

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
        await eventually_in_thread(all_answered, SOON, "an answer to each poison that has a reply address")
    except AssertionError:
        silent = [one for one in expected if not got[one]]
        stage.findings.append(f"never answered: {', '.join(silent)}")
    at_rest = [one.name for one in stage.faults.broker.queues() if one.is_consumed]

    def settled() -> bool:
        now = {one.name: one.messages for one in stage.faults.broker.queues()}
        return not any(now.get(name) for name in at_rest) and not any(
            count for name, count in now.items() if name.endswith(".retry")
        )

    await eventually_in_thread(settled, SOON, "the end of all retries")
    due = sum(1 for one in corpus(answers) if one.is_parked)
    with suppress(AssertionError):  # the broker counts what a quorum queue holds every few seconds only
        await eventually_in_thread(lambda: _all_parked(stage) >= due, SOON, "the poison being parked")
    parked = _all_parked(stage)
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
    # What is still retried would be parked in the same queue, and taken for the lethal one.
    await eventually_in_thread(lambda: not _retried(stage), SOON, "the end of all retries")
    before = len(stage.faults.points.hits("notifications.on_order_confirmed.before"))
    stage.faults.points.arm("notifications.on_order_confirmed.before", "exit", LETHAL_LIVES)
    event = json.dumps({"event_id": str(uuid.uuid4()), "data": {}, "type": "order_confirmed"})
    lethal = Poison(KILLER, event, "", {"content_type": "application/json", "content_encoding": "utf-8"})
    parked_before = _parked(stage)
    await asyncio.to_thread(_poison, stage, [lethal])
    await eventually_in_thread(
        lambda: _parked(stage) > parked_before, 5 * SOON, "the lethal event being parked"
    )
    deaths = len(stage.faults.points.hits("notifications.on_order_confirmed.before")) - before
    stage.figures["deaths of the lethal event"] = deaths
    stage.faults.count("death", deaths)  # it is the last of them that the mesh has to recover from
    stage.faults.points.disarm()


def _all_parked(stage: Stage) -> int:
    return sum(one.messages for one in stage.faults.broker.queues() if one.name.endswith(DEAD))


def _retried(stage: Stage) -> int:
    return sum(one.messages for one in stage.faults.broker.queues() if one.name.endswith(RETRY))


def _parked(stage: Stage) -> int:
    return sum(one.messages for one in stage.faults.broker.queues() if one.name == f"{KILLER}{DEAD}")


def _pids(stage: Stage) -> dict[str, int]:
    return {one.name: one.pid for one in stage.mesh.processes()}


def _changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name, pid in before.items() if after.get(name) != pid]
