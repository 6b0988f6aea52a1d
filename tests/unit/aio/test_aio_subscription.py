"""Events reach their callback, whatever the callback does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from tests.unit.aio.fake_broker import FakeBroker, Session
from tests.unit.aio.test_aio_rpc_client import started
from tests.waiting import eventually_async

Connect = Callable[..., Any]


def bindings(session: Session) -> set[tuple[str, str]]:
    return {(bind.exchange, bind.routing_key) for bind in session.declared(commands.Queue.Bind)}


def publish(session: Session, body: bytes, tag: int = 1) -> None:
    """Deliver on channel 2, which the subscription has opened after the channel of the calls."""
    deliver = commands.Basic.Deliver("consumer", tag, False, "orders.events", "order_placed")
    session.send(deliver, ContentHeader(0, len(body)), *([ContentBody(body)] if body else []), channel=2)


async def consuming(session: Session, consumers: int = 2) -> None:
    await eventually_async(lambda: len(session.declared(commands.Basic.Consume)) >= consumers)


async def test_subscription_declares_and_binds_as_nameko_does(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    client.subscribe("orders", ["order_placed", "order_confirmed"], print)
    session = await broker.session()
    await consuming(session)

    exchange = session.declared(commands.Exchange.Declare)[-1]
    assert (exchange.exchange, exchange.exchange_type) == ("orders.events", "topic")
    assert (exchange.durable, exchange.auto_delete, exchange.internal) == (True, False, False)
    queue = session.declared(commands.Queue.Declare)[-1]
    assert (queue.exclusive, queue.auto_delete) == (True, True)
    assert bindings(session) >= {("orders.events", "order_placed"), ("orders.events", "order_confirmed")}


async def test_callback_may_be_plain_or_async_and_may_raise(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    seen: list[Any] = []
    done = asyncio.Event()

    async def callback(event: Any) -> None:
        await asyncio.sleep(0)
        seen.append(event)
        if event == {"n": 1}:
            raise ZeroDivisionError
        if event == {"n": 3}:
            done.set()

    client.subscribe("orders", ["#"], callback)
    session = await broker.session()
    await consuming(session)
    for tag, body in enumerate([b'{"n": 1}', b"no json", b"", b'{"n": 2}', b'{"n": 3}'], 1):
        publish(session, body, tag)

    async with asyncio.timeout(5):
        await done.wait()
    assert seen == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert len(broker.sessions) == 1


async def test_hanging_callback_delays_no_call(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    entered = asyncio.Event()

    async def callback(event: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    client.subscribe("orders", ["#"], callback)
    session = await broker.session()
    await consuming(session)
    publish(session, b"{}")
    async with asyncio.timeout(5):
        await entered.wait()

    call = started(client.call("s", "m"))
    (await broker.request()).answer("through")

    assert await call == "through"


async def test_on_flowing_is_called_at_first_and_after_each_interruption(
    broker: FakeBroker, connect: Connect
) -> None:
    client = await connect()
    events: asyncio.Queue[Any] = asyncio.Queue()
    flowing: asyncio.Queue[None] = asyncio.Queue()
    client.subscribe("orders", ["#"], events.put_nowait, on_flowing=lambda: flowing.put_nowait(None))
    first = await broker.session()
    await consuming(first)
    await asyncio.wait_for(flowing.get(), 5)

    first.reset()
    second = await broker.session(1)
    await consuming(second)
    publish(second, orjson.dumps({"n": 2}))

    async with asyncio.timeout(5):
        await flowing.get()
        assert await events.get() == {"n": 2}


async def test_closed_subscription_passes_no_more_events(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    events: asyncio.Queue[Any] = asyncio.Queue()
    subscription = client.subscribe("orders", ["#"], events.put_nowait)
    session = await broker.session()
    await consuming(session)

    await subscription.close()
    publish(session, b"{}")
    call = started(client.call("s", "m"))
    (await broker.request()).answer("after the event")
    await call

    assert events.empty()
    assert len(broker.sessions) == 1


async def test_more_events_than_the_prefetch_end_the_connection(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    hang = asyncio.Event()

    async def callback(event: Any) -> None:
        await hang.wait()

    client.subscribe("orders", ["#"], callback, prefetch=5)
    session = await broker.session()
    await consuming(session)
    for tag in range(20):
        publish(session, b"{}", tag)

    await broker.session(1)


async def test_refused_subscription_disturbs_no_call(broker: FakeBroker, connect: Connect) -> None:
    client = await connect()
    broker.answers[commands.Exchange.Declare] = lambda: commands.Channel.Close(406, "PRECONDITION", 0, 0)

    client.subscribe("orders", ["#"], print)
    session = await broker.session()
    await eventually_async(lambda: session.declared(commands.Channel.CloseOk))

    call = started(client.call("s", "m"))
    (await broker.request()).answer("through")
    assert await call == "through"
    assert len(broker.sessions) == 1
