"""Instances in a real Consul agent, followed from asyncio."""

import asyncio
import time

import httpx
import pytest

from mycelium.servers import consul as consul_server
from mycelium.servers import running
from nameko_mesh.aio import Discovery
from nameko_mesh.discovery.consul_watch import Watch, parse_endpoints
from tests.integration.conftest import CACHE
from tests.waiting import eventually_async

PATIENCE = 30
A, B = parse_endpoints("127.0.0.1:50051,127.0.0.1:50052")


class Agent:
    """A private agent that a test may stop, start and register instances with."""

    def __init__(self, agent, processes):
        self.http_addr = agent.http_addr
        self._is_ready = agent.is_ready
        [self._program] = agent.programs
        self._processes = processes

    async def stop(self):
        await asyncio.to_thread(self._processes.stop, self._program)

    async def start(self):
        await asyncio.to_thread(self._processes.start, self._program)
        await asyncio.to_thread(self._processes.wait_until, self._is_ready, PATIENCE, "Consul")

    async def put(self, path, **body):
        async with httpx.AsyncClient(base_url=self.http_addr) as http:
            (await http.put(f"/v1/agent/{path}", json=body)).raise_for_status()

    async def register(self, endpoint, status="passing"):
        check = {"CheckID": f"check-{endpoint.port}", "TTL": "10m", "Status": status}
        await self.put(
            "service/register",
            Name="products",
            ID=str(endpoint.port),
            Address=endpoint.host,
            Port=endpoint.port,
            Check=check,
        )


@pytest.fixture
def consul(tmp_path):
    agent = consul_server.find_or_fetch(CACHE, print).agent(tmp_path / "consul")
    with running(*agent.programs, log_dir=tmp_path) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
        yield Agent(agent, processes)


@pytest.fixture
async def watch(consul):
    watch = Watch(consul.http_addr, "products", static=(A,))
    discovery = Discovery(watch)
    discovery.start()
    yield watch
    await discovery.stop()


async def known(watch, *endpoints):
    """Return the seconds until exactly these endpoints are known."""
    began = time.monotonic()
    await eventually_async(lambda: watch.endpoints == endpoints, PATIENCE, "the news from Consul")
    return time.monotonic() - began


async def test_instance_is_known_soon_after_its_check_passes(consul, watch):
    await consul.register(B, "critical")
    await consul.register(A)
    assert watch.endpoints == (A,)

    await consul.put(f"check/pass/check-{B.port}")
    assert await known(watch, A, B) < 1

    await consul.put(f"check/fail/check-{A.port}")
    assert await known(watch, B) < 1


async def test_known_instances_stay_known_while_consul_is_down_or_empty(consul, watch):
    await consul.register(A)
    await consul.register(B)
    await known(watch, A, B)

    await consul.stop()
    await consul.start()  # the catalogue is empty now
    assert watch.endpoints == (A, B)

    await consul.register(B)
    await known(watch, B)
