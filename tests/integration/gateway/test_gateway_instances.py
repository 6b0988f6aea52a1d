"""Products read over gRPC from several instances, of which one dies, freezes, leaves or comes."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from mycelium.servers import free_port
from tests.integration.gateway.conftest import PATIENCE, ROOT, Process
from tests.waiting import eventually

STUB = Path(__file__).with_name("products_grpc_stub.py")
GONE_SECONDS = 4
"""Twice the time after which one that is dead no longer matters: the machine may be busy."""
CALM_SECONDS = 0.25
"""What a read takes at most when it was not sent to a silent instance first."""


@pytest.fixture
def start_instance(tmp_path):
    """Starts instances; `port` and `name`, which is in each answer, are known when this returns."""
    started = []

    def start():
        port = free_port()
        log = tmp_path / f"products-{port}.log"
        process = Process([str(STUB), str(port)], log, PYTHONPATH=str(ROOT))
        process.port, process.name = port, str(process.child.pid)
        started.append(process)
        eventually(lambda: "serving" in process.output, PATIENCE)
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
    """Reads of one gateway, which knows the three; nobody asks it but this."""
    known = ",".join(f"127.0.0.1:{one.port}" for one in three)
    metrics = free_port()
    gateway = start_gateway(amqp_uri, PRODUCTS_GRPC=known, GATEWAY_METRICS_PORT=str(metrics))
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        reading = Reading(http, f"http://127.0.0.1:{metrics}/metrics")
        await reading.until_asked(three)
        yield reading


class Reading:
    """Reads at a steady rate, and notes who answered and how long the slowest took."""

    def __init__(self, http, metrics_url):
        self.http = http
        self.metrics_url = metrics_url
        self.slowest = 0.0

    async def one(self):
        began = time.monotonic()
        answer = await self.http.get("/products/P001")
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert (answer.status_code, "age" in answer.headers) == (200, False), answer.text
        return answer.json()["name"]

    async def for_a_while(self, seconds, rate=100):
        """How often each instance has answered. Raises when a read failed."""
        reads = []
        self.slowest = 0.0
        for _ in range(int(seconds * rate)):
            reads.append(asyncio.create_task(self.one()))
            await asyncio.sleep(1 / rate)
        return Counter(await asyncio.gather(*reads))

    async def until_asked(self, instances):
        """Seconds until exactly these answer, and none of them late."""
        began, names = time.monotonic(), {one.name for one in instances}
        async with asyncio.timeout(30):
            while set(await self.for_a_while(0.3)) != names or self.slowest > CALM_SECONDS:
                pass
        return time.monotonic() - began


async def test_reads_are_spread_over_all_instances(reading, three):
    answered = await reading.for_a_while(5, rate=200)

    even = answered.total() / 3
    assert set(answered) == {one.name for one in three}
    assert all(abs(count - even) < 0.2 * even for count in answered.values()), answered


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_killed_or_frozen_instance_costs_no_read(reading, three, number):
    dead, *living = three
    load = asyncio.create_task(reading.for_a_while(3))
    await reading.one()
    dead.child.send_signal(number)

    assert await reading.until_asked(living) < GONE_SECONDS
    await load


async def test_resumed_instance_gets_reads_again(reading, three):
    frozen, *living = three
    frozen.child.send_signal(signal.SIGSTOP)
    await reading.until_asked(living)

    frozen.child.send_signal(signal.SIGCONT)
    await reading.until_asked(three)


async def test_rpc_answers_when_no_instance_is_left(reading, three):
    for one in three:
        one.child.kill()

    async with asyncio.timeout(30):
        while await reading.one() != "Laptop":
            pass
    text = (await reading.http.get(reading.metrics_url)).text
    assert 'gateway_fallbacks_total{to="rpc"}' in text
    assert f'gateway_target_ready{{instance="127.0.0.1:{three[0].port}",service="products"}} 0.0' in text


async def test_reads_follow_the_instances_in_consul(start_gateway, amqp_uri, stubs, consul, start_instance):
    agent, processes = consul
    old, new = start_instance(), start_instance()
    async with httpx.AsyncClient(base_url=agent.http_addr) as catalogue:

        async def register(one):
            body = {"Name": "products", "ID": one.name, "Address": "127.0.0.1", "Port": one.port}
            (await catalogue.put("/v1/agent/service/register", json=body)).raise_for_status()

        await register(old)
        gateway = start_gateway(amqp_uri, CONSUL_HTTP_ADDR=agent.http_addr)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
            reading = Reading(http, "")
            await reading.until_asked([old])

            await register(new)
            assert await reading.until_asked([old, new]) < GONE_SECONDS
            (await catalogue.put(f"/v1/agent/service/deregister/{old.name}")).raise_for_status()
            assert await reading.until_asked([new]) < GONE_SECONDS

            load = asyncio.create_task(reading.for_a_while(2))
            await asyncio.to_thread(processes.stop, *agent.programs)
            assert set(await load) == {new.name}
