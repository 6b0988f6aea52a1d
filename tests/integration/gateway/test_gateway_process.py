"""The gateway as a process: its start and its exit."""

import asyncio
import socket
import time

import httpx
import pytest

from tests.integration.gateway.conftest import TIMEOUT_SECONDS
from tests.waiting import eventually_async

SECRET = "x" * 32
URI = "amqp://guest:guest@127.0.0.1:1//"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ["AMQP_URI", "JWT_SECRET"]),
        ({"AMQP_URI": URI}, ["JWT_SECRET"]),
        ({"JWT_SECRET": SECRET}, ["AMQP_URI"]),
        ({"AMQP_URI": URI, "JWT_SECRET": "short"}, ["JWT_SECRET"]),
        ({"AMQP_URI": "amqp://host:port", "JWT_SECRET": SECRET}, ["AMQP_URI"]),
    ],
)
def test_missing_setting_is_named_in_one_line(run_gateway, environment, named):
    ended = run_gateway(**environment)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert all(name in ended.stderr for name in named)


def test_port_in_use_is_named_in_one_line(run_gateway):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_gateway(AMQP_URI=URI, JWT_SECRET=SECRET, GATEWAY_PORT=str(port))

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert str(port) in ended.stderr


async def test_sigterm_answers_the_request_in_flight_and_exits_with_0(gateway, http, alice, arrived):
    order = {"product_id": "HALF", "quantity": 1}
    headers = {**alice, "Idempotency-Key": f"half-{time.monotonic_ns()}"}
    in_flight = asyncio.create_task(http.post("/orders", json=order, headers=headers))

    async def it_arrived():
        return (arrived / headers["Idempotency-Key"]).exists()

    await eventually_async(it_arrived, TIMEOUT_SECONDS)
    gateway.ask_to_stop()
    response = await in_flight

    assert response.status_code == 201
    assert await asyncio.to_thread(gateway.exit_code) == 0
    with pytest.raises(httpx.TransportError):
        await http.get("/health")


async def test_sigterm_ends_the_stream_of_an_order(gateway, http, alice):
    async with http.stream("GET", "/orders/o-5/events", headers=alice) as stream:
        chunks = stream.aiter_text()
        assert "confirmed" in await anext(chunks)

        began = time.monotonic()
        gateway.ask_to_stop()
        async with asyncio.timeout(10):
            assert [chunk async for chunk in chunks if "data:" in chunk] == []

    assert await asyncio.to_thread(gateway.exit_code) == 0
    assert time.monotonic() - began < 5


async def test_sigterm_without_a_broker_exits_with_0(start_gateway, unused_port):
    process = start_gateway(f"amqp://guest:guest@127.0.0.1:{unused_port}//")

    process.ask_to_stop()

    assert await asyncio.to_thread(process.exit_code, 10) == 0
