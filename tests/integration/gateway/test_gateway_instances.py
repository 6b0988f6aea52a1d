"""Reads of products over gRPC from several instances, while an instance dies, freezes, leaves or comes."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from mycelium.servers import free_port
from tests.integration.gateway.conftest import ROOT, TIMEOUT_SECONDS, Process
from tests.waiting import eventually

STUB = Path(__file__).with_name("products_grpc_stub.py")
GONE_SECONDS = 4
"""Twice the time in which a dead instance is avoided, because the machine may be busy."""
CALM_SECONDS = 0.25
"""The time of a read that was not sent to a silent instance first."""


@pytest.fixture
def start_instance(tmp_path):
    """Return a function that starts an instance. Its `name` is in each of its responses."""
    started = []

    def start():
        port = free_port()
        log = tmp_path / f"products-{port}.log"
        process = Process([str(STUB), str(port)], log, PYTHONPATH=str(ROOT))
        process.port, process.name = port, str(process.child.pid)
        started.append(process)
        eventually(lambda: "serving" in process.output, TIMEOUT_SECONDS)
        return process

    yield start
    for process in started:
        process.child.kill()
        process.child.wait()


@pytest.fixture
def three(start_instance):
    return [start_instance() for _ in range(3)]


@pytest.fixture
async def reading(start_gateway, amqp_uri, stubs, three, unused_port):
    """Reads through a gateway that knows the three instances and has no other client."""
    known = ",".join(f"127.0.0.1:{instance.port}" for instance in three)
    metrics = free_port()
    gateway = start_gateway(amqp_uri, PRODUCTS_GRPC=known, GATEWAY_METRICS_PORT=str(metrics))
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        reading = Reading(http, f"http://127.0.0.1:{metrics}/metrics")
        await reading.until_read_from(three)
        yield reading


class Reading:
    """Reads at a steady rate. `slowest` is the duration of the slowest read, in seconds."""

    def __init__(self, http, metrics_url):
        self.http = http
        self.metrics_url = metrics_url
        self.slowest = 0.0

    async def read_once(self):
        """Return the name of the instance that answered."""
        began = time.monotonic()
        response = await self.http.get("/products/P001")
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert (response.status_code, "age" in response.headers) == (200, False), response.text
        return response.json()["name"]

    async def for_a_while(self, seconds, rate=100):
        """Return the number of responses by instance. Fails when a read fails."""
        reads = []
        self.slowest = 0.0
        for _ in range(int(seconds * rate)):
            reads.append(asyncio.create_task(self.read_once()))
            await asyncio.sleep(1 / rate)
        return Counter(await asyncio.gather(*reads))

    async def until_read_from(self, instances):
        """Return the seconds until exactly these instances answer, all of them fast."""
        began, names = time.monotonic(), {instance.name for instance in instances}
        async with asyncio.timeout(30):
            while set(await self.for_a_while(0.3)) != names or self.slowest > CALM_SECONDS:
                pass
        return time.monotonic() - began


async def test_reads_are_spread_over_all_instances(reading, three):
    counts = await reading.for_a_while(5, rate=200)

    even = counts.total() / 3
    assert set(counts) == {instance.name for instance in three}
    assert all(abs(count - even) < 0.2 * even for count in counts.values()), counts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_killed_or_frozen_instance_costs_no_read(reading, three, number):
    dead, *living = three
    load = asyncio.create_task(reading.for_a_while(3))
    await reading.read_once()
    dead.child.send_signal(number)

    assert await reading.until_read_from(living) < GONE_SECONDS
    await load


async def test_resumed_instance_gets_reads_again(reading, three):
    frozen, *living = three
    frozen.child.send_signal(signal.SIGSTOP)
    await reading.until_read_from(living)

    frozen.child.send_signal(signal.SIGCONT)
    await reading.until_read_from(three)


async def test_rpc_answers_when_no_instance_is_left(reading, three):
    for instance in three:
        instance.child.kill()

    async with asyncio.timeout(30):
        while await reading.read_once() != "Laptop":
            pass
    text = (await reading.http.get(reading.metrics_url)).text
    assert 'gateway_fallbacks_total{to="rpc"}' in text
    assert f'gateway_target_ready{{instance="127.0.0.1:{three[0].port}",service="products"}} 0.0' in text


async def test_reads_follow_the_instances_in_consul(start_gateway, amqp_uri, stubs, consul, start_instance):
    agent, processes = consul
    old, new = start_instance(), start_instance()
    async with httpx.AsyncClient(base_url=agent.http_addr) as catalogue:

        async def register(instance):
            body = {"Name": "products", "ID": instance.name, "Address": "127.0.0.1", "Port": instance.port}
            (await catalogue.put("/v1/agent/service/register", json=body)).raise_for_status()

        await register(old)
        gateway = start_gateway(amqp_uri, CONSUL_HTTP_ADDR=agent.http_addr)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
            reading = Reading(http, "")
            await reading.until_read_from([old])

            await register(new)
            assert await reading.until_read_from([old, new]) < GONE_SECONDS
            (await catalogue.put(f"/v1/agent/service/deregister/{old.name}")).raise_for_status()
            assert await reading.until_read_from([new]) < GONE_SECONDS

            load = asyncio.create_task(reading.for_a_while(2))
            await asyncio.to_thread(processes.stop, *agent.programs)
            assert set(await load) == {new.name}
