"""`python -m bench.tricks.batches`: results of a batch delivered at once, or after the next batch is sent.

64 callers submit items one after the other, and work 0.1 ms for each. A second process waits 0.1 ms for each
item of a batch, as for a database. Each line is the median of items per second over 7 interleaved rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from nameko_mesh.aio import Batcher, batch_schedule

CALLERS, ROUNDS, SECONDS = 64, 7, 1.5
WORK_SECONDS = 0.0001


def work() -> None:
    end = time.process_time() + WORK_SECONDS
    while time.process_time() < end:
        pass


async def serve() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(int(line) * WORK_SECONDS)
            writer.write(line)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def items_per_second(port: int, turns: int, lanes: int) -> float:
    batch_schedule.ITERATIONS_TO_SEND = turns
    free = [await asyncio.open_connection("127.0.0.1", port) for _ in range(lanes)]
    connections = list(free)

    async def send(items: Sequence[int], deadline: float) -> Sequence[int]:
        reader, writer = connection = free.pop()
        writer.write(b"%d\n" % len(items))
        await reader.readline()
        free.append(connection)
        return items

    batcher = Batcher(send, lanes=lanes)
    end = time.monotonic() + SECONDS
    count = 0

    async def call() -> None:
        nonlocal count
        while time.monotonic() < end:
            await batcher(1, time.time() + 10)
            work()
            count += 1

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    for _, writer in connections:
        writer.close()
    return count / SECONDS


async def compare(port: int) -> None:
    for lanes in (1, 3):
        rates: dict[int, list[float]] = {0: [], 3: []}
        for _ in range(ROUNDS):
            for turns, results in rates.items():
                results.append(await items_per_second(port, turns, lanes))
        at_once, after = (statistics.median(results) for results in rates.values())
        print(
            f"{lanes} lanes: at once {at_once:,.0f}, after the next batch {after:,.0f}, "
            f"ratio {after / at_once:.2f}"
        )


def main() -> None:
    command = [sys.executable, "-m", "bench.tricks.batches", "serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        asyncio.run(compare(int(server.stdout.readline())))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    asyncio.run(serve()) if sys.argv[1:] == ["serve"] else main()
