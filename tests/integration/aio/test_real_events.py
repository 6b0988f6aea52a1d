"""Events of stock Nameko over a real broker."""

import asyncio

from tests.integration.aio.stock_answers import PATIENCE
from tests.waiting import eventually_async


async def _subscribed(client, types, callback, **options):
    subscription = client.subscribe("stock", types, callback, **options)
    await asyncio.wait_for(subscription.bound(), 10)
    return subscription


async def _publish(client, event_type, payload):
    await client.call("stock", "publish", {"event_type": event_type, "payload": payload})


async def test_subscribed_events_arrive_in_order(client):
    seen = []
    await _subscribed(client, ["sold", "restocked"], seen.append)
    await _publish(client, "moved", "not asked for")
    for n in range(50):
        await _publish(client, "sold" if n % 2 else "restocked", n)

    await eventually_async(lambda: len(seen) >= 50, PATIENCE)
    assert seen == list(range(50))


async def test_failing_callback_misses_only_its_event(client):
    seen = []

    async def handle(payload):
        seen.append(payload)
        if payload == "bad":
            raise RuntimeError(payload)

    await _subscribed(client, ["sold"], handle)
    for payload in ("bad", "good"):
        await _publish(client, "sold", payload)

    await eventually_async(lambda: seen == ["bad", "good"], PATIENCE)
    assert client.is_connected


async def test_events_flow_again_after_the_connection_was_closed(client, broker):
    seen, flowing = [], []
    await _subscribed(client, ["sold"], seen.append, on_flowing=lambda: flowing.append(True))
    await eventually_async(lambda: broker.connections(client.name), PATIENCE)
    assert broker.close_connections(client.name) == 1
    await eventually_async(lambda: len(flowing) == 2, PATIENCE)
    await _publish(client, "sold", "after")

    await eventually_async(lambda: seen == ["after"], PATIENCE)


async def test_closed_subscription_leaves_no_queue_and_disturbs_no_call(client, broker):
    subscription = await _subscribed(client, ["sold"], print)
    assert broker.queues(f"evt-stock-{client.name}")
    await subscription.close()

    await eventually_async(lambda: not broker.queues(f"evt-stock-{client.name}"), PATIENCE)
    assert await client.call("stock", "echo", {"value": 1}) == 1
