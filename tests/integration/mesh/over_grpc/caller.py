"""grpcio's client in its own process, because it must not run in a monkey-patched one: ADDRESS SCENARIO.

Prints the result as JSON. The service is that of test_calls.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
SECONDS = 20


def get(stub: Any, product_id: str, **options: Any) -> Any:
    return stub.GetProduct(pb.ProductRequest(product_id=product_id), **{"timeout": SECONDS, **options})


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def many_at_once(stub: Any) -> bool:
    names = [f"P{number:03}" for number in range(100)]
    with ThreadPoolExecutor(100) as threads:
        return [product.id for product in threads.map(lambda name: get(stub, name), names)] == names


def large_messages(stub: Any) -> list[Any]:
    large = "x" * 5_000_000
    return [
        len(get(stub, large).id),
        len(get(stub, large, compression=grpc.Compression.Gzip).id),
        refused(lambda: get(stub, "x" * 17_000_000)),
        refused(lambda: get(stub, "x" * 17_000_000, compression=grpc.Compression.Gzip)),
        get(stub, "still there").id,
    ]


def a_stream(stub: Any) -> bool:
    products = stub.ListProducts(pb.ListProductsRequest(query="1000 of 10"), timeout=SECONDS)
    return [product.stock for product in products] == list(range(1000))


def a_client_that_does_not_read(stub: Any) -> list[Any]:
    """Return the messages produced while the client read one, and the messages received in the end."""
    stream = stub.ListProducts(pb.ListProductsRequest(query="1000 of 100000"), timeout=60)
    first = next(stream)
    before = -1
    while (produced := get(stub, "produced").stock) != before:  # until the service waits for this client
        before = produced
        time.sleep(0.3)
    rest = sum(1 for _ in stream)
    return [first.stock, produced, rest + 1]


def deadlines(stub: Any) -> list[Any]:
    began = time.monotonic()
    code = refused(lambda: get(stub, "slow", timeout=0.2))
    took = time.monotonic() - began
    left = get(stub, "how long", timeout=7).stock
    return [code, took < 1.5, 5 <= left <= 7]


def late_in_the_queue(stub: Any) -> list[Any]:
    """Make calls that wait behind a slow one beyond their deadline, and one call with enough time."""
    get(stub, "connected")  # calls that wait for the connection leave in no certain order
    slow = stub.GetProduct.future(pb.ProductRequest(product_id="slow"), timeout=SECONDS)
    late = [stub.GetProduct.future(pb.ProductRequest(product_id="late"), timeout=0.3) for _ in range(5)]
    patient = stub.GetProduct.future(pb.ProductRequest(product_id="patient"), timeout=SECONDS)
    return [[refused(call.result) for call in late], slow.result().id, patient.result().id]


def a_cancelled_stream(stub: Any) -> str:
    stream = stub.ListProducts(pb.ListProductsRequest(query="1000000 of 1000"), timeout=SECONDS)
    list(itertools.islice(stream, 10))
    stream.cancel()
    return str(get(stub, "still there").id)


def until_goodbye(stub: Any) -> str:
    """Make a call that is in flight when the service stops."""
    print("calling", flush=True)
    return str(get(stub, "slow").id)


def nobody(stub: Any) -> list[str]:
    unknown = grpc.insecure_channel(sys.argv[1]).unary_unary("/product.ProductService/Steal")
    return [refused(lambda: unknown(b"", timeout=SECONDS)), refused(lambda: get(stub, "broken"))]


if __name__ == "__main__":
    options = UNLIMITED if sys.argv[2] == "large_messages" else None
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        print(json.dumps(globals()[sys.argv[2]](ProductServiceStub(channel))), flush=True)
