"""The registration of the gateway at a real Consul agent."""

import asyncio

import httpx

from tests.integration.gateway.conftest import TIMEOUT_SECONDS
from tests.waiting import eventually_async


async def test_gateway_registers_again_at_a_restarted_agent(start_gateway, amqp_uri, consul):
    agent, processes = consul
    process = start_gateway(amqp_uri, CONSUL_HTTP_ADDR=agent.http_addr)
    port = int(process.url.rpartition(":")[2])

    async with httpx.AsyncClient(base_url=agent.http_addr) as catalogue:

        async def passing():
            try:
                response = await catalogue.get("/v1/health/service/gateway?passing")
            except httpx.TransportError:
                return None
            return response.json() if response.is_success else None

        [entry] = await eventually_async(passing, TIMEOUT_SECONDS)
        assert (entry["Service"]["Address"], entry["Service"]["Port"]) == ("127.0.0.1", port)

        [program] = agent.programs
        await asyncio.to_thread(processes.stop, program)
        assert (await catalogue.get(f"{process.url}/ready")).is_success
        await asyncio.to_thread(processes.start, program)
        await asyncio.to_thread(processes.wait_until, agent.is_ready, 30, "Consul")
        await eventually_async(passing, TIMEOUT_SECONDS)

        process.ask_to_stop()
        assert await asyncio.to_thread(process.exit_code) == 0
        assert (await catalogue.get("/v1/catalog/service/gateway")).json() == []


async def test_gateway_serves_without_an_agent(start_gateway, amqp_uri, unused_port):
    process = start_gateway(amqp_uri, CONSUL_HTTP_ADDR=f"127.0.0.1:{unused_port}")

    async with httpx.AsyncClient(base_url=process.url) as http:

        async def ready():
            return (await http.get("/ready")).is_success

        await eventually_async(ready, TIMEOUT_SECONDS)
    process.ask_to_stop()
    assert await asyncio.to_thread(process.exit_code) == 0
