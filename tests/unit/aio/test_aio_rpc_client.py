"""Results and errors of calls, whatever the broker does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from nameko_mesh import errors
from tests.unit.aio.fake_broker import FakeBroker

Connect = Callable[..., Any]


async def fails(call: asyncio.Task[Any], kind: type[Exception], within: float = 2.0) -> Exception:
    """Return the exception of `call`, which must have exactly this type and come within so many seconds."""
    async with asyncio.timeout(within):
        with pytest.raises(kind) as caught:
            await call
    assert caught.type is kind
    return caught.value


def started(coroutine: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(coroutine)


async def test_call_carries_arguments_deadline_and_context(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(name="shop")
    deadline = time.time() + 3

    call = started(
        client.call("products", "get", {"id": "P001"}, deadline=deadline, context={"request_id": "r-1"})
    )
    request = await broker.request()
    request.answer({"name": "Laptop"})

    assert await call == {"name": "Laptop"}
    assert (request.publish.exchange, request.publish.routing_key) == ("nameko-rpc", "products.get")
    assert request.publish.mandatory
    assert request.kwargs == {"id": "P001"}
    headers = request.properties.headers
    assert headers["nameko.deadline"] == deadline
    assert headers["nameko.request_id"] == "r-1"
    (call_id,) = headers["nameko.call_id_stack"]
    assert call_id.startswith("shop.")
    assert 2000 < int(request.properties.expiration) <= 3000


async def test_replies_may_arrive_in_any_order(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    calls = [started(client.call("s", "m", {"n": n})) for n in range(50)]
    requests = [await broker.request() for _ in calls]

    for request in reversed(requests):
        request.answer(request.kwargs["n"])

    assert await asyncio.gather(*calls) == list(range(50))
    assert client.in_flight == 0


async def test_values_wrapped_by_kombu_stay_wrapped(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call = started(client.call("s", "m"))
    wrapped = {"__type__": "decimal", "__value__": "1.5"}

    (await broker.request()).answer(wrapped)

    assert await call == wrapped


async def test_refusal_keeps_its_slug_and_field(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call = started(client.call("s", "m"))

    (await broker.request()).answer(
        error={"exc_type": "OutOfStock", "value": "P001", "slug": "out-of-stock", "field": "quantity"}
    )

    refused = await fails(call, errors.Refused)
    assert isinstance(refused, errors.Refused)
    assert (refused.slug, refused.message, refused.field) == ("out-of-stock", "P001", "quantity")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff\xfe", b"{", b"[]", b"null", b"5", b'"x"', b"{}"),
        *(b'{"result": 1}', b'{"error": null}', b'{"result": null, "error": 5}'),
        *(b'{"result": null, "error": "x"}', b'{"result": null, "error": []}'),
    ],
)
async def test_unreadable_reply_fails_its_caller_alone(
    broker: FakeBroker, connect: Connect, body: bytes
) -> None:
    client = await connect()
    call, other = started(client.call("s", "bad")), started(client.call("s", "good"))
    bad, good = await broker.request(), await broker.request()

    bad.answer_bytes(body)
    good.answer("fine")

    await fails(call, errors.RemoteFault)
    assert await other == "fine"
    assert len(broker.sessions) == 1


async def test_returned_request_raises_unknown_service_at_once(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call, other = started(client.call("nobody", "m")), started(client.call("s", "m"))
    returned, answered = await broker.request(), await broker.request()

    returned.give_back()

    await fails(call, errors.UnknownService)
    answered.answer(1)
    assert await other == 1


async def test_late_reply_is_ignored(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call = started(client.call("s", "m", timeout=0.05))
    late = await broker.request()

    await fails(call, errors.DeadlineExceeded)
    assert client.in_flight == 0
    assert len(client._pending_calls) == 0  # no entry is left for an abandoned call
    late.answer("too late")

    following = started(client.call("s", "m"))
    (await broker.request()).answer("in time")
    assert await following == "in time"


async def test_call_with_a_passed_deadline_is_not_sent(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()

    await fails(started(client.call("s", "m", deadline=time.time() - 1)), errors.DeadlineExceeded)

    assert (await broker.session()).requests.empty()


async def test_cancelled_call_leaves_no_entry(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call = started(client.call("s", "m"))
    request = await broker.request()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.in_flight == 0
    assert len(client._pending_calls) == 0  # no entry is left for an abandoned call
    request.answer("to nobody")
    following = started(client.call("s", "m"))
    (await broker.request()).answer(2)
    assert await following == 2


async def test_call_beyond_the_limit_is_refused_at_once(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(max_in_flight=2)
    calls = [started(client.call("s", "m")) for _ in range(2)]
    requests = [await broker.request() for _ in calls]

    await fails(started(client.call("s", "m")), errors.Overloaded, within=0.2)

    for request in requests:
        request.answer(None)
    assert await asyncio.gather(*calls) == [None, None]
    following = started(client.call("s", "m"))
    (await broker.request()).answer(3)
    assert await following == 3


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [({"x": object()}, TypeError), ({"x": 2**70}, TypeError)],
)
async def test_arguments_without_a_json_form_raise_type_error(
    broker: FakeBroker, connect: Connect, kwargs: dict[str, Any], error: type[Exception]
) -> None:
    client = await connect()

    with pytest.raises(error):
        await client.call("s", "m", kwargs)

    assert client.in_flight == 0
    assert client.is_connected


async def test_small_call_after_a_large_call_is_complete(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    big = "x" * 1_000_000
    calls = [started(client.call("s", "m", {"x": big})), started(client.call("s", "m", {"x": "small"}))]

    requests = [await broker.request() for _ in calls]
    for request in requests:
        request.answer(request.kwargs["x"])

    assert await asyncio.gather(*calls) == [big, "small"]


async def test_stop_waits_for_calls_in_flight_and_refuses_new_calls(
    broker: FakeBroker, connect: Connect
) -> None:
    client = await connect()
    call = started(client.call("s", "m"))
    request = await broker.request()

    stopping = started(client.stop(drain=5.0))
    await asyncio.sleep(0)
    await fails(started(client.call("s", "m")), errors.Unavailable)
    request.answer("kept")

    assert await call == "kept"
    async with asyncio.timeout(2):
        await stopping
    assert request.session.ended.is_set() or await asyncio.wait_for(request.session.ended.wait(), 2)


async def test_stop_waits_only_for_the_drain_time(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    call = started(client.call("s", "m"))
    await broker.request()

    async with asyncio.timeout(3):
        await client.stop(drain=0.05)

    await fails(call, errors.Disconnected)


async def test_stop_may_be_called_twice_and_without_start(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    await client.stop()
    await client.stop()

    await (await connect(start=False)).stop()
