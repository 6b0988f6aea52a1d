"""Two gateways on a shared port: both accept connections, and either may leave."""

import asyncio
import os
import signal
import socket
import time

import httpx
import pytest

from gateway.__main__ import open_shared_socket
from mycelium.servers import free_port, port_is_free
from tests.integration.gateway.conftest import TIMEOUT_SECONDS
from tests.waiting import eventually_async


@pytest.fixture
def shared_port():
    return free_port()


@pytest.fixture
def pair(start_gateway, amqp_uri, stubs, shared_port):
    return [start_gateway(amqp_uri, **shared(shared_port)) for _ in range(2)]


def shared(port):
    return {"GATEWAY_SHARED_PORT": str(port), "GATEWAY_INSTANCES": "2"}


async def ask(port, path="/health"):
    """Send a request on a new connection, for which the kernel chooses a gateway anew."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:
        return await http.get(path)


async def test_both_gateways_accept_on_the_shared_port(start_gateway, amqp_uri, stubs, shared_port, alice):
    metrics_ports = [free_port(), free_port()]
    for port in metrics_ports:
        start_gateway(amqp_uri, **shared(shared_port), GATEWAY_METRICS_PORT=str(port))
    placed = 0

    async def both_have_placed_some():
        nonlocal placed
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{shared_port}") as http:
            response = await http.post("/orders", json={"product_id": "P001", "quantity": 1}, headers=alice)
        placed += response.status_code == 201
        texts = [(await ask(port, "/metrics")).text for port in metrics_ports]
        return all('route="/orders",status="201"' in text for text in texts)

    await eventually_async(both_have_placed_some, TIMEOUT_SECONDS)
    assert placed >= 2


def test_connection_never_reaches_a_socket_that_does_not_listen(shared_port):
    address = "127.0.0.1", shared_port
    with (
        open_shared_socket(address, socket.AF_INET) as starting,
        open_shared_socket(address, socket.AF_INET) as serving,
    ):
        serving.listen()
        for _ in range(20):
            socket.create_connection(address, 5).close()
        with pytest.raises(OSError, match=r"[Ii]nvalid"):
            starting.accept()


async def test_gateway_answers_at_its_own_port_too(pair, shared_port):
    for gateway in pair:
        assert (await ask(gateway.url.rpartition(":")[2])).is_success
        assert not gateway.url.endswith(str(shared_port))


async def test_killed_gateway_leaves_the_port_to_the_other(pair, shared_port):
    victim, other = pair
    victim.child.kill()
    await asyncio.to_thread(victim.child.wait)

    assert {(await ask(shared_port)).status_code for _ in range(20)} == {200}
    assert other.child.poll() is None


async def test_leaving_gateway_answers_its_accepted_requests(pair, shared_port, alice, arrived):
    order = {"product_id": "HALF", "quantity": 1}
    keys = [f"shared-{time.monotonic_ns()}-{number}" for number in range(2)]

    async def place(key):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{shared_port}", timeout=30) as http:
            return await http.post("/orders", json=order, headers={**alice, "Idempotency-Key": key})

    in_flight = [asyncio.create_task(place(key)) for key in keys]

    async def all_arrived():
        return all((arrived / key).exists() for key in keys)

    await eventually_async(all_arrived, TIMEOUT_SECONDS)
    for gateway in pair:
        gateway.ask_to_stop()

    assert {response.status_code for response in await asyncio.gather(*in_flight)} == {201}
    assert [await asyncio.to_thread(gateway.exit_code) for gateway in pair] == [0, 0]
    assert port_is_free(shared_port)


async def test_other_gateway_serves_while_the_first_leaves(pair, shared_port):
    leaving, _ = pair
    leaving.ask_to_stop()
    successes, resets = 0, 0
    while leaving.child.poll() is None:
        try:
            successes += (await ask(shared_port)).is_success
        except httpx.TransportError:  # the leaving gateway closed before it accepted this connection
            resets += 1
    assert successes > 0
    assert resets <= 1
    assert leaving.exit_code() == 0


async def test_gateway_is_registered_at_its_own_port(start_gateway, amqp_uri, consul, shared_port):
    agent, _ = consul
    environment = {**shared(shared_port), "CONSUL_HTTP_ADDR": agent.http_addr}
    pair = [start_gateway(amqp_uri, **environment) for _ in range(2)]
    ports = {int(gateway.url.rpartition(":")[2]) for gateway in pair}

    async def catalogue():
        response = await ask(agent.http_addr.rpartition(":")[2], "/v1/health/service/gateway?passing")
        return {entry["Service"]["Port"] for entry in response.json()}

    async def both_are_there():
        return await catalogue() == ports

    await eventually_async(both_are_there, TIMEOUT_SECONDS)
    os.kill(pair[0].child.pid, signal.SIGKILL)

    async def one_is_left():
        return await catalogue() == {int(pair[1].url.rpartition(":")[2])}

    await eventually_async(one_is_left, TIMEOUT_SECONDS)


async def test_exclusively_bound_port_is_named_in_one_line(pair, run_gateway, amqp_uri):
    taken = pair[0].url.rpartition(":")[2]
    ended = await asyncio.to_thread(
        run_gateway, AMQP_URI=amqp_uri, JWT_SECRET="x" * 32, GATEWAY_PORT="0", **shared(taken)
    )

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert taken in ended.stderr
