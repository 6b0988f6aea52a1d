"""A gateway of two processes: one port, one entry in the catalogue, and one end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mycelium.plan import Ports
from mycelium.servers import port_is_free

PAIR = {"GATEWAY_WORKERS": "2"}


@pytest.fixture
def metrics_ports():
    """Two in a row."""
    return Ports(well_known=False).take_row(0, 2)


@pytest.fixture
def pair(start_gateway, amqp_uri, stubs, metrics_ports):
    gateway = start_gateway(amqp_uri, **PAIR, GATEWAY_METRICS_PORT=str(metrics_ports[0]))
    wait_for_workers(gateway, 2)
    return gateway


def workers(gateway):
    """The processes that serve; the parent of them has another child, which looks after what they share."""
    found = subprocess.run(
        ["pgrep", "-P", str(gateway.child.pid), "-f", "spawn_main"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {int(pid) for pid in found.stdout.split()}


def wait_for_workers(gateway, connected):
    """Until so many, all in all, have connected to the broker and two are there."""
    ends = time.monotonic() + 30
    while gateway.output.count("gateway: connected to") < connected or len(workers(gateway)) != 2:
        assert time.monotonic() < ends, gateway.output
        assert gateway.child.poll() is None, gateway.output
        time.sleep(0.05)


def is_alive(pid):
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() != ""


async def test_each_worker_serves_and_has_its_own_metrics(pair, alice, metrics_ports, eventually):
    order = {"product_id": "P001", "quantity": 1}

    def counted(port):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        lines = [line for line in text.splitlines() if 'route="/orders"' in line and "_count" in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    placed = 0

    async def both_were_asked():
        nonlocal placed
        async with httpx.AsyncClient(base_url=pair.url) as http:  # a new connection goes to any of them
            answers = await asyncio.gather(
                *(http.post("/orders", json=order, headers=alice) for _ in range(8))
            )
        assert {answer.status_code for answer in answers} == {201}
        placed += len(answers)
        return all([await asyncio.to_thread(counted, port) for port in metrics_ports])

    await eventually(both_were_asked)
    assert sum(map(counted, metrics_ports)) == placed


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_a_worker_that_is_gone_is_replaced_and_meanwhile_the_other_serves(pair, metrics_ports, how):
    victim, other = sorted(workers(pair))
    os.kill(victim, how)
    refused = 0
    while workers(pair) & {victim} or len(workers(pair)) < 2:
        async with httpx.AsyncClient(base_url=pair.url, timeout=2) as http:
            refused += (await http.get("/health")).is_error
        await asyncio.sleep(0.05)

    assert refused == 0
    assert other in workers(pair)
    await asyncio.to_thread(wait_for_workers, pair, 3)
    async with httpx.AsyncClient() as http:
        for port in metrics_ports:
            assert (await http.get(f"http://127.0.0.1:{port}/metrics")).is_success


async def test_sigterm_lets_the_requests_in_flight_end_and_leaves_nothing(pair, alice, arrived, eventually):
    order, pids = {"product_id": "HALF", "quantity": 1}, workers(pair)
    keys = [f"pair-{time.monotonic_ns()}-{number}" for number in range(2)]

    async def place(key):
        async with httpx.AsyncClient(base_url=pair.url, timeout=30) as http:  # each may be at another worker
            return await http.post("/orders", json=order, headers={**alice, "Idempotency-Key": key})

    in_flight = [asyncio.create_task(place(key)) for key in keys]

    async def all_arrived():
        return all((arrived / key).exists() for key in keys)

    await eventually(all_arrived)
    pair.ask_to_stop()

    assert {answer.status_code for answer in await asyncio.gather(*in_flight)} == {201}
    assert await asyncio.to_thread(pair.exit_code) == 0
    assert not any(map(is_alive, pids))


async def test_sigterm_ends_what_would_never_end_by_itself(pair, alice):
    async with (
        httpx.AsyncClient(base_url=pair.url, timeout=30) as http,
        http.stream("GET", "/orders/o-5/events", headers=alice) as stream,
    ):
        chunks = stream.aiter_text()
        assert "confirmed" in await anext(chunks)

        began = time.monotonic()
        pair.ask_to_stop()
        async with asyncio.timeout(10):
            assert [chunk async for chunk in chunks if "data:" in chunk] == []

    assert await asyncio.to_thread(pair.exit_code) == 0
    assert time.monotonic() - began < 5


async def test_when_the_parent_is_killed_its_workers_leave_and_the_port_is_free(pair, eventually):
    pids, port = workers(pair), int(pair.url.rpartition(":")[2])
    pair.child.kill()

    async def all_gone():
        return not any(map(is_alive, pids)) and port_is_free(port)

    await eventually(all_gone, 15)


async def test_consul_is_told_once_and_until_the_end(start_gateway, amqp_uri, stubs, consul, eventually):
    agent, _ = consul
    gateway = start_gateway(amqp_uri, **PAIR, CONSUL_HTTP_ADDR=agent.http_addr)
    async with httpx.AsyncClient(base_url=agent.http_addr) as catalogue:

        async def passing():
            return (await catalogue.get("/v1/health/service/gateway?passing")).json()

        [entry] = await eventually(passing)
        assert entry["Service"]["Port"] == int(gateway.url.rpartition(":")[2])
        await asyncio.to_thread(wait_for_workers, gateway, 2)
        os.kill(min(workers(gateway)), signal.SIGKILL)
        await asyncio.to_thread(wait_for_workers, gateway, 3)
        assert [one["Service"]["ID"] for one in await passing()] == [entry["Service"]["ID"]]

        gateway.ask_to_stop()
        assert await asyncio.to_thread(gateway.exit_code) == 0
        assert (await catalogue.get("/v1/catalog/service/gateway")).json() == []


def test_workers_that_cannot_start_end_the_gateway_with_the_reason(run_gateway, amqp_uri, metrics_ports):
    with socket.create_server(("127.0.0.1", metrics_ports[1])):
        ended = run_gateway(
            AMQP_URI=amqp_uri,
            JWT_SECRET="x" * 32,
            GATEWAY_PORT="0",
            **PAIR,
            GATEWAY_METRICS_PORT=str(metrics_ports[0]),
        )

    assert ended.returncode == 1
    assert f"the metrics can't have port {metrics_ports[1]}" in ended.stderr


HANGS = """
import asyncio, time
from gateway.workers import _Heartbeat

async def main():
    await _Heartbeat(0.3)()
    time.sleep(30)

asyncio.run(main())
"""


def test_a_worker_whose_loop_hangs_says_where_and_ends():
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20, check=False
    )

    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "in main" in ended.stderr
