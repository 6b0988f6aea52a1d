"""Call an echo with the mesh's asyncio client. Arguments: SERVICE IN_FLIGHT SECONDS."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import uvloop

from bench.programs import timing
from nameko_mesh.aio import RpcClient


async def main(service: str, in_flight: int, seconds: float) -> None:
    async with RpcClient(os.environ["AMQP_URI"], name="bench", default_timeout=30.0) as client:
        begin = time.perf_counter() + timing.WARM_SECONDS
        end = begin + seconds
        latencies: list[float] = []

        async def call_in_sequence() -> None:
            while (sent := time.perf_counter()) < end:
                await client.call(service, "echo", {"value": "P001"})
                if sent >= begin:
                    latencies.append(time.perf_counter() - sent)

        async def cpu_at_begin() -> float:
            await asyncio.sleep(timing.WARM_SECONDS)
            return timing.cpu()

        before, *_ = await asyncio.gather(cpu_at_begin(), *(call_in_sequence() for _ in range(in_flight)))
        timing.report(latencies, seconds, before)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
