"""Calls to stock Nameko over a real broker."""

import asyncio
import time

import pytest

from nameko_mesh.errors import (
    DeadlineExceeded,
    Disconnected,
    Overloaded,
    Refused,
    RemoteFault,
    Unavailable,
    UnknownService,
)
from tests.integration.aio.stock_answers import PATIENCE, answering
from tests.waiting import eventually_async


async def test_two_hundred_concurrent_calls_get_their_own_results(client):
    answers = await asyncio.gather(*(client.call("stock", "echo", {"value": n}) for n in range(200)))

    assert answers == list(range(200))
    assert client.in_flight == 0


@pytest.mark.parametrize("value", ["x" * 1_500_000, [], None, {"ü": [1.5, True, {"deep": None}]}])
async def test_any_json_value_comes_back_unchanged(client, value):
    assert await client.call("stock", "echo", {"value": value}) == value


async def test_value_wrapped_by_kombu_stays_wrapped(client):
    assert await client.call("stock", "price") == {"__type__": "decimal", "__value__": "1.50"}


async def test_context_and_call_stack_reach_the_service(client):
    data = await client.call("stock", "context_data", context={"request_id": "r-1"})

    assert data["request_id"] == "r-1"
    assert data["deadline"] > time.time()
    caller, own = data["call_id_stack"]
    assert caller.startswith(f"{client.name}.stock.")
    assert own.startswith("stock.context_data.")


async def test_call_to_a_service_without_a_queue_fails_at_once(client):
    began = time.monotonic()
    with pytest.raises(UnknownService, match="nobody"):
        await client.call("nobody", "anything", timeout=10)

    assert time.monotonic() - began < 5


async def test_wrong_method_or_arguments_are_refused(client):
    with pytest.raises(Refused, match="MethodNotFound"):
        await client.call("stock", "no_such_method")
    with pytest.raises(Refused, match="IncorrectSignature"):
        await client.call("stock", "echo", {"wrong": 1})


async def test_exception_of_the_service_becomes_a_remote_fault(client):
    with pytest.raises(RemoteFault) as caught:
        await client.call("stock", "fail")

    assert caught.value.args[0] == "ValueError"


async def test_reply_after_the_deadline_is_ignored(client):
    with pytest.raises(DeadlineExceeded):
        await client.call("stock", "sleep", {"seconds": 0.3}, timeout=0.1)

    assert await client.call("stock", "sleep", {"seconds": 0.5}) == 0.5  # the late reply arrived in between
    assert client.in_flight == 0
    assert client.is_connected


async def test_cancelled_call_leaves_nothing_and_disturbs_no_other(client):
    cancelled = asyncio.create_task(client.call("stock", "sleep", {"seconds": 0.3}))
    other = asyncio.create_task(client.call("stock", "sleep", {"seconds": 0.5}))
    await eventually_async(lambda: client.in_flight == 2, PATIENCE)
    cancelled.cancel()

    assert await other == 0.5
    assert cancelled.cancelled()
    assert client.in_flight == 0


async def test_call_beyond_the_bound_fails_at_once(connect):
    client = await connect(max_in_flight=2)
    await answering(client)
    slow = [asyncio.create_task(client.call("stock", "sleep", {"seconds": 0.3})) for _ in range(2)]
    await eventually_async(lambda: client.in_flight == 2, PATIENCE)
    with pytest.raises(Overloaded):
        await client.call("stock", "echo", {"value": 1})

    assert await asyncio.gather(*slow) == [0.3, 0.3]
    assert await client.call("stock", "echo", {"value": 1}) == 1


async def test_request_with_a_passed_deadline_is_never_executed(client, services):
    services.stop()
    with pytest.raises(DeadlineExceeded):  # the queue exists, so the service is not unknown
        await client.call("stock", "record", {"mark": "too late"}, timeout=0.2)
    services.start()
    await answering(client)

    assert "too late" not in await client.call("stock", "recorded")


async def test_call_during_a_restart_is_answered_by_the_next_process(client, services):
    services.stop()
    waiting = asyncio.create_task(client.call("stock", "echo", {"value": "waited"}, timeout=30))
    await eventually_async(lambda: client.in_flight == 1, PATIENCE)
    services.start()

    assert await waiting == "waited"
    assert client.is_connected


async def test_closed_connection_fails_its_calls_and_is_replaced(client, broker):
    await eventually_async(lambda: broker.connections(client.name), PATIENCE)
    lost = asyncio.create_task(client.call("stock", "sleep", {"seconds": 20}, timeout=30))
    await eventually_async(lambda: client.in_flight == 1, PATIENCE)
    assert broker.close_connections(client.name) == 1

    with pytest.raises(Disconnected, match="320"):
        await asyncio.wait_for(lost, 10)
    assert await client.call("stock", "echo", {"value": "back"}) == "back"


async def test_alarm_of_the_broker_makes_calls_unavailable_until_it_ends(connect, broker):
    client = await connect(patience=60.0)
    await answering(client)
    try:
        await broker.control("set_vm_memory_high_watermark", "absolute", "1")
        # The broker announces its alarm only to publishers.
        with pytest.raises(DeadlineExceeded):
            await client.call("stock", "echo", {"value": 1}, timeout=0.5)
        await eventually_async(lambda: not client.is_connected, PATIENCE)
        with pytest.raises(Unavailable, match="blocks publishers"):
            await client.call("stock", "echo", {"value": 1}, timeout=0.5)
        waiting = asyncio.create_task(client.call("stock", "echo", {"value": "waited"}, timeout=30))
    finally:
        await broker.control("set_vm_memory_high_watermark", "0.4")

    assert await waiting == "waited"


async def test_stop_waits_for_calls_and_leaves_no_queue(connect, broker):
    client = await connect()
    await answering(client)
    assert broker.queues(f"rpc.reply-{client.name}")
    slow = asyncio.create_task(client.call("stock", "sleep", {"seconds": 0.3}))
    await eventually_async(lambda: client.in_flight == 1, PATIENCE)
    await client.stop()

    assert await slow == 0.3
    with pytest.raises(Unavailable):
        await client.call("stock", "echo", {"value": 1})
    await eventually_async(lambda: not broker.queues(f"rpc.reply-{client.name}"), PATIENCE)
