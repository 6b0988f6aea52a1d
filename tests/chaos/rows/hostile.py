"""R7: malformed and malicious messages."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress

from tests.chaos.broker import DEAD, RETRY
from tests.chaos.poison import LETHAL_LIVES, Poison, corpus, fuzz
from tests.chaos.rows import row
from tests.chaos.stage import Stage, all_of
from tests.waiting import eventually_in_thread

RESPONSE_SECONDS = 15.0
SOON = 60.0
KILLER = "evt-orders-order_confirmed--notifications.on_order_confirmed"


@row(
    "R7",
    load="the poison corpus and 1,000 fuzzed messages, live and before a start; an event that kills",
    passes="valid calls answered in 15 s; each poison answered or parked; no process dies or hangs",
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
    dead_queues = {queue.name for queue in stage.faults.broker.queues() if queue.name.endswith(DEAD)}
    stage.meant_to_be_parked |= dead_queues
    await stage.judge()
    await asyncio.to_thread(stage.faults.broker.purge, stage.meant_to_be_parked)


def _poison(stage: Stage, poisons: list[Poison]) -> None:
    with stage.faults.broker.channel() as channel:
        for poison in poisons:
            stage.faults.broker.publish(
                channel,
                poison.body,
                poison.routing_key,
                poison.exchange,
                poison.headers,
                **poison.properties,
            )
    stage.faults.count("poison", len(poisons))


async def _valid_calls_are_answered(stage: Stage, product: str, when: str) -> None:
    began = time.monotonic()
    await all_of(stage.shop.order([(product, 1)]) for _ in range(5))
    took = time.monotonic() - began
    stage.expect(took <= RESPONSE_SECONDS, f"valid orders took {took:.0f} s {when}")
    stage.figures[f"orders {when}"] = f"{took:.1f} s"


async def _poison_is_settled(stage: Stage, answers: str) -> None:
    """Check that each call with a reply queue gets an error, and that the queues become empty."""
    expected = {poison.properties["correlation_id"] for poison in corpus(answers) if poison.is_answered}
    received: set[str] = set()

    def all_answered() -> bool:
        for message in stage.faults.broker.receive(answers):
            received.add(str(message.properties.get("correlation_id")))
        return expected <= received

    try:
        await eventually_in_thread(all_answered, SOON, "a reply to each poison with a reply queue")
    except AssertionError:
        stage.findings.append(f"never answered: {', '.join(sorted(expected - received))}")
    consumed = [queue.name for queue in stage.faults.broker.queues() if queue.is_consumed]

    def settled() -> bool:
        waiting = {queue.name: queue.messages for queue in stage.faults.broker.queues()}
        return not any(waiting.get(name) for name in consumed) and not any(
            count for name, count in waiting.items() if name.endswith(RETRY)
        )

    await eventually_in_thread(settled, SOON, "the end of all retries")
    due = sum(1 for poison in corpus(answers) if poison.is_parked)
    with suppress(AssertionError):  # the broker counts a quorum queue only every few seconds
        await eventually_in_thread(lambda: _all_parked(stage) >= due, SOON, "the parking of the poison")
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
    """Publish an event that kills the process at each delivery, until it is parked."""
    # Events that are still retried would be parked in the same queue, and counted as the lethal event.
    await eventually_in_thread(lambda: not _retried(stage), SOON, "the end of all retries")
    before = len(stage.faults.points.hits("notifications.on_order_confirmed.before"))
    stage.faults.points.arm("notifications.on_order_confirmed.before", "exit", LETHAL_LIVES)
    event = json.dumps({"event_id": str(uuid.uuid4()), "data": {}, "type": "order_confirmed"})
    lethal = Poison(KILLER, event, "", {"content_type": "application/json", "content_encoding": "utf-8"})
    parked_before = _parked(stage)
    await asyncio.to_thread(_poison, stage, [lethal])
    await eventually_in_thread(
        lambda: _parked(stage) > parked_before, 5 * SOON, "the parking of the lethal event"
    )
    deaths = len(stage.faults.points.hits("notifications.on_order_confirmed.before")) - before
    stage.figures["deaths of the lethal event"] = deaths
    stage.faults.count("death", deaths)  # the recovery is measured from the last death
    stage.faults.points.disarm()


def _all_parked(stage: Stage) -> int:
    return sum(queue.messages for queue in stage.faults.broker.queues() if queue.name.endswith(DEAD))


def _retried(stage: Stage) -> int:
    return sum(queue.messages for queue in stage.faults.broker.queues() if queue.name.endswith(RETRY))


def _parked(stage: Stage) -> int:
    return sum(queue.messages for queue in stage.faults.broker.queues() if queue.name == f"{KILLER}{DEAD}")


def _pids(stage: Stage) -> dict[str, int]:
    return {process.name: process.pid for process in stage.mesh.processes()}


def _changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name, pid in before.items() if after.get(name) != pid]
