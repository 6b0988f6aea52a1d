"""Calls without a pause until its input ends: ADDRESS[,ADDRESS...].

Prints "calling" when all is under way; ends some seconds after the calls began to fail, or after its input
was closed; then prints, as JSON, what came of each call by its text: a status, or OK.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from typing import Any

import grpc

pb, services = grpc.protos_and_services("tests/integration/mesh/over_grpc/echo.proto")
THREADS = 20
SECONDS = 20
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


def call(stub: Any, text: str) -> str:
    try:
        heard = stub.Once(pb.Say(text=text, load=b"x" * 5000), timeout=SECONDS)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "OK" if heard.text == text else f"answered {heard.text}"


def main(addresses: str) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    stop = threading.Event()
    options = [("grpc.service_config", ROUND_ROBIN)]
    with grpc.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
        stub = services.EchoStub(channel)
        grpc.channel_ready_future(channel).result(SECONDS)

        def run(name: int) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                text = f"brief {name}.{number}"
                outcomes[text] = call(stub, text)
                if number == 10:
                    print("calling", flush=True)

        threads = [threading.Thread(target=run, args=(name,)) for name in range(THREADS)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join()
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])), flush=True)
