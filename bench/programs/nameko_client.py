"""Call an echo with Nameko's client, one open client per thread. Arguments: SERVICE THREADS SECONDS."""

from __future__ import annotations

import os
import sys
import threading
import time

from nameko.standalone.rpc import ServiceRpcClient

from bench.programs import timing


def main(service: str, threads: int, seconds: float) -> None:
    all_connected = threading.Barrier(threads + 1)
    latencies: list[float] = []

    def call_in_sequence() -> None:
        with ServiceRpcClient(service, uri=os.environ["AMQP_URI"]) as client:
            client.echo(value="P001")
            all_connected.wait()
            begin = time.perf_counter() + timing.WARM_SECONDS
            while (sent := time.perf_counter()) < begin + seconds:
                client.echo(value="P001")
                if sent >= begin:
                    latencies.append(time.perf_counter() - sent)

    running = [threading.Thread(target=call_in_sequence) for _ in range(threads)]
    for thread in running:
        thread.start()
    all_connected.wait()
    time.sleep(timing.WARM_SECONDS)
    before = timing.cpu()
    for thread in running:
        thread.join()
    timing.report(latencies, seconds, before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
