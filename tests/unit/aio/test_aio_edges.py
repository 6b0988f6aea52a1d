"""Moments between two states, in which calls are easily lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from nameko_mesh import errors
from tests.unit.aio.fake_broker import FakeBroker
from tests.unit.aio.test_aio_rpc_client import started

Connect = Callable[..., Any]


@pytest.mark.parametrize("how", ["channel", "connection", "reset", "garbage"])
async def test_no_call_is_lost_while_the_connection_ends(
    broker: FakeBroker, connect: Connect, how: str
) -> None:
    client = await connect()
    session = await broker.session()
    calls: list[asyncio.Task[Any]] = []

    async def keep_calling() -> None:
        while len(broker.sessions) == 1:
            calls.append(started(client.call("s", "m", timeout=3.0)))
            await asyncio.sleep(0)

    calling = started(keep_calling())
    await broker.request()
    if how == "channel":
        session.send(commands.Channel.Close(404, "NOT_FOUND", 0, 0))
    elif how == "connection":
        session.send(commands.Connection.Close(320, "FORCED", 0, 0), channel=0)
    elif how == "reset":
        session.reset()
    else:
        session.send_bytes(b"garbage " * 10)
    await calling
    began = time.monotonic()

    async def answer_the_rest() -> None:
        while True:
            (await broker.request(1)).answer("answered")

    answering = started(answer_the_rest())
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answering.cancel()

    assert time.monotonic() - began < 2.0  # no call waited for its deadline
    kinds = {type(outcome) for outcome in outcomes}
    assert errors.Disconnected in kinds
    assert kinds <= {str, errors.Disconnected, errors.Overloaded}


@pytest.mark.parametrize("value", [5, 300, -(2**40), None, 1.5, True, ["a", 1], {"k": "v"}])
async def test_context_may_hold_every_amqp_type(broker: FakeBroker, connect: Connect, value: Any) -> None:
    client = await connect()
    call = started(client.call("s", "m", context={"key": value}))

    request = await broker.request()
    request.answer(1)

    assert await call == 1
    assert request.properties.headers["nameko.key"] == value


async def test_call_stack_names_the_caller_and_the_service(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(name="shop")
    call = started(client.call("products", "get"))
    request = await broker.request()
    request.answer(1)
    await call

    (entry,) = request.properties.headers["nameko.call_id_stack"]
    assert entry.startswith("shop.products.")
