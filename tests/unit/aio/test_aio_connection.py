"""Every way in which a connection ends, and the reconnect after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands
from pamqp.heartbeat import Heartbeat

from nameko_mesh import errors
from nameko_mesh.aio import RpcClient
from nameko_mesh.aio.amqp.reconnecting import reconnect_delay
from tests.unit.aio.fake_broker import FakeBroker
from tests.unit.aio.test_aio_rpc_client import fails, started
from tests.waiting import eventually_async

Connect = Callable[..., Any]


async def echoes(client: RpcClient, broker: FakeBroker, session: int) -> None:
    """Check that a call succeeds on the client's connection number `session`."""
    call = started(client.call("s", "m", {"n": 1}))
    (await broker.request(session)).answer("answered")
    async with asyncio.timeout(5):
        assert await call == "answered"


def test_reconnect_delay_grows_to_its_limit_with_full_jitter() -> None:
    def longest(failures: int) -> float:
        return max(reconnect_delay(failures) for _ in range(2000))

    assert 0.045 < longest(0) <= 0.05
    assert 0.35 < longest(3) <= 0.4
    assert 4.5 < longest(20) <= 5.0
    assert longest(10_000) <= 5.0
    assert min(reconnect_delay(20) for _ in range(2000)) < 0.5


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x00" * 64, id="zeros"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="http"),
        pytest.param(b"\x03\x00\x01" + (2**30).to_bytes(4, "big") + b"x" * 1000, id="frame over frame_max"),
        pytest.param(b"\x01\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff\xce", id="unknown method"),
        pytest.param(b"\x08\x00\x00\x00\x00\x00\x00\x00", id="no end mark"),
        pytest.param(b"\x01\x00\x07\x00\x00\x00\x05\x00\x14\x00\x0b\x00\xce", id="channel nobody opened"),
    ],
)
async def test_garbage_ends_the_connection_and_the_client_reconnects(
    broker: FakeBroker, connect: Connect, garbage: bytes
) -> None:
    client = await connect()
    call = started(client.call("s", "m"))
    request = await broker.request()

    request.session.send_bytes(garbage)

    await fails(call, errors.Disconnected)
    await echoes(client, broker, session=1)
    assert request.session.ended.is_set()


@pytest.mark.parametrize("how", ["reset", "connection.close", "channel.close", "cancel"])
async def test_client_reconnects_after_every_kind_of_end(
    broker: FakeBroker, connect: Connect, how: str
) -> None:
    client = await connect()
    calls = [started(client.call("s", "m")) for _ in range(20)]
    session = (await broker.request()).session

    if how == "reset":
        session.reset()
    elif how == "connection.close":
        session.send(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
    elif how == "channel.close":
        session.send(commands.Channel.Close(404, "NOT_FOUND", 0, 0))
    else:
        session.send(commands.Basic.Cancel("consumer", True))

    for call in calls:
        await fails(call, errors.Disconnected)
    await echoes(client, broker, session=1)
    names = [broker.sessions[n].declared(commands.Queue.Declare)[0].queue for n in (0, 1)]
    assert names[0] != names[1]  # the old queue may still be locked by the dead connection


async def test_call_while_disconnected_is_sent_after_the_reconnect(
    broker: FakeBroker, connect: Connect
) -> None:
    client = await connect()
    await broker.shut()
    await eventually_async(lambda: not client.is_connected)

    call = started(client.call("s", "m"))
    await broker.listen()
    (await broker.request(1)).answer("after all")

    assert await call == "after all"


async def test_call_waits_for_a_connection_at_most_until_its_deadline(
    broker: FakeBroker, connect: Connect
) -> None:
    client = await connect(patience=60)
    await broker.shut()
    await eventually_async(lambda: not client.is_connected)

    began = time.monotonic()
    await fails(started(client.call("s", "m", timeout=0.2)), errors.Unavailable)

    assert 0.15 < time.monotonic() - began < 1.0
    assert client.in_flight == 0


async def test_attempt_with_a_silent_peer_times_out(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nameko_mesh.aio.amqp.reconnecting.CONNECT_TIMEOUT_SECONDS", 0.1)
    broker.mute = True
    client = RpcClient(broker.uri)

    await client.start(wait=0)
    try:
        await broker.session(1)  # the client has tried again
        await fails(started(client.call("s", "m", timeout=0.1)), errors.Unavailable)
    finally:
        async with asyncio.timeout(3):
            await client.stop()


async def test_start_without_a_broker_raises_unavailable(broker: FakeBroker) -> None:
    await broker.shut()
    client = RpcClient(broker.uri)

    with pytest.raises(errors.Unavailable, match=r"."):
        await client.start(wait=0.2)


async def test_broker_without_plain_login_is_named_in_the_error(broker: FakeBroker) -> None:
    broker.mechanisms = "EXTERNAL"

    with pytest.raises(errors.Unavailable, match="PLAIN"):
        await RpcClient(broker.uri).start(wait=0.3)


async def test_silent_broker_counts_as_dead(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(heartbeat=1)
    call = started(client.call("s", "m", timeout=10))
    request = await broker.request()

    began = time.monotonic()
    await fails(call, errors.Disconnected, within=4)

    assert time.monotonic() - began > 1.0
    assert request.session.heartbeats >= 1  # the client sends heartbeats too
    (tune_ok,) = request.session.declared(commands.Connection.TuneOk)
    assert tune_ok.heartbeat == 1
    await broker.session(1)


async def test_heartbeats_keep_an_idle_connection_open(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(heartbeat=1)
    session = await broker.session()
    for _ in range(6):
        session.send(Heartbeat(), channel=0)
        await asyncio.sleep(0.5)

    assert client.is_connected
    assert len(broker.sessions) == 1
    assert session.heartbeats >= 3


async def test_alarm_of_the_broker_makes_calls_unavailable_within_their_deadline(
    broker: FakeBroker, connect: Connect
) -> None:
    client = await connect(patience=60)
    session = await broker.session()
    session.send(commands.Connection.Blocked("low on memory"), channel=0)
    await eventually_async(lambda: not client.is_connected)

    error = await fails(started(client.call("s", "m", timeout=0.1)), errors.Unavailable)
    assert "low on memory" in str(error)
    waiting = started(client.call("s", "m"))
    session.send(commands.Connection.Unblocked(), channel=0)

    (await broker.request()).answer("taken")
    assert await waiting == "taken"
    assert len(broker.sessions) == 1


async def test_broker_that_does_not_read_fills_no_memory(broker: FakeBroker, connect: Connect) -> None:
    client = await connect(max_in_flight=10_000, patience=60)
    (await broker.session()).pause()
    big = {"x": "x" * 100_000}

    calls = [started(client.call("s", "m", big, timeout=0.5)) for _ in range(300)]
    await eventually_async(lambda: not client.is_connected)
    late = [started(client.call("s", "m", big, timeout=0.2)) for _ in range(300)]

    for call in late:
        await fails(call, errors.Unavailable)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} <= {errors.DeadlineExceeded, errors.Unavailable}


async def test_broker_that_drops_each_connection_gets_growing_delays(
    broker: FakeBroker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(
        "nameko_mesh.aio.amqp.reconnecting.reconnect_delay",
        lambda failures: waits.append(failures) or 0.001,
    )
    broker.answers[commands.Connection.Open] = lambda: commands.Connection.Close(530, "NOT_ALLOWED", 0, 0)
    client = await connect(start=False)

    await client.start(wait=0)
    await broker.session(4)

    assert waits == sorted(set(waits))  # each attempt waits longer than the previous
