"""A stock grpcio client, in its own process because grpcio does not work in a monkey-patched one.

Usage: grpc_client.py ADDRESS. Prints the answers as JSON.
"""

from __future__ import annotations

import functools
import json
import sys

import grpc

from protos import product_pb2 as pb
from protos import product_pb2_grpc

HOSTILE_METADATA = [
    ("x-nameko-foo", "notjson"),
    ("x-nameko-call_id_stack", "5"),
    ("x-nameko-deadline", '"x"'),
]


def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    raise AssertionError("it was not refused")


def main(address: str) -> dict:
    seen = {}
    with grpc.insecure_channel(address) as channel:
        stub = product_pb2_grpc.ProductServiceStub(channel)
        product = stub.GetProduct(pb.ProductRequest(product_id="P001"), timeout=5)
        seen["product"] = [
            product.id,
            product.name,
            product.price,
            product.stock,
            product.price_minor,
            product.currency,
        ]
        seen["unknown"] = refusal(lambda: stub.GetProduct(pb.ProductRequest(product_id="P404"), timeout=5))
        batch = stub.BatchGetProducts(pb.BatchGetProductsRequest(product_ids=["P001", "P404"]), timeout=5)
        seen["batch"] = [result.WhichOneof("outcome") for result in batch.results]
        seen["problem"] = batch.results[1].problem.code
        seen["list"] = [found.id for found in stub.ListProducts(pb.ListProductsRequest(), timeout=5)]
        seen["found"] = [
            found.id for found in stub.ListProducts(pb.ListProductsRequest(query="key"), timeout=5)
        ]

        watch = stub.WatchStock(pb.WatchStockRequest(product_ids=["P001"]), timeout=20)
        changes = iter(watch)
        seen["watched"] = [next(changes).stock]
        item = pb.OrderLine(product_id="P001", quantity=2)
        reserve = pb.ReserveStockRequest(order_id="o-1", items=[item])
        reserved = stub.ReserveStock(reserve, timeout=5)
        seen["reserved"] = [
            [line.product_id, line.quantity, line.unit_price_minor] for line in reserved.items
        ]
        assert stub.ReserveStock(reserve, timeout=5) == reserved
        seen["watched"].append(next(changes).stock)
        stub.ReleaseStock(pb.ReleaseStockRequest(order_id="o-1"), timeout=5)
        seen["watched"].append(next(changes).stock)
        watch.cancel()

        too_much = pb.ReserveStockRequest(
            order_id="o-2", items=[pb.OrderLine(product_id="P001", quantity=99)]
        )
        seen["out of stock"] = refusal(lambda: stub.ReserveStock(too_much, timeout=5))
        nothing = pb.ReserveStockRequest(order_id="o-3", items=[pb.OrderLine(product_id="P001")])
        seen["no quantity"] = refusal(lambda: stub.ReserveStock(nothing, timeout=5))
        seen["released"] = refusal(lambda: stub.ReserveStock(release_first(stub), timeout=5))
        for key, value in HOSTILE_METADATA:
            call = functools.partial(stub.GetProduct, metadata=[(key, value)], timeout=5)
            seen[f"metadata {key}: {value}"] = refusal(
                lambda call=call: call(pb.ProductRequest(product_id="P001"))
            )[0]
        junk = channel.unary_unary("/product.ProductService/GetProduct")
        seen["junk"] = refusal(lambda: junk(b"\xff\xff\xff", timeout=5))[0]
        seen["still there"] = stub.GetProduct(pb.ProductRequest(product_id="P001"), timeout=5).id
        unwatched = pb.WatchStockRequest(product_ids=["P404"])
        seen["watch unknown"] = refusal(lambda: list(stub.WatchStock(unwatched, timeout=5)))
    return seen


def release_first(stub):
    stub.ReleaseStock(pb.ReleaseStockRequest(order_id="o-4"), timeout=5)
    return pb.ReserveStockRequest(order_id="o-4", items=[pb.OrderLine(product_id="P001", quantity=1)])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
