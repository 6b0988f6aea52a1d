"""Call GetProduct with grpcio's client on one channel. Arguments: ADDRESS IN_FLIGHT SECONDS."""

from __future__ import annotations

import asyncio
import sys
import time

import grpc

from bench.programs import timing
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub


async def main(address: str, in_flight: int, seconds: float) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        products = ProductServiceStub(channel)
        await products.GetProduct(pb.ProductRequest(product_id="P001"), wait_for_ready=True)
        begin = time.perf_counter() + timing.WARM_SECONDS
        end = begin + seconds
        latencies: list[float] = []

        async def call_in_sequence() -> None:
            while (sent := time.perf_counter()) < end:
                await products.GetProduct(pb.ProductRequest(product_id="P001"))
                if sent >= begin:
                    latencies.append(time.perf_counter() - sent)

        async def cpu_at_begin() -> float:
            await asyncio.sleep(timing.WARM_SECONDS)
            return timing.cpu()

        before, *_ = await asyncio.gather(cpu_at_begin(), *(call_in_sequence() for _ in range(in_flight)))
        timing.report(latencies, seconds, before)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
