"""The service that the gRPC tests call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import eventlet
from nameko.extensions import DependencyProvider

from mesh.grpc import Grpc
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub

grpc = Grpc.implementing(ProductServiceStub)
SLOW_SECONDS = 1.0


class TimeLeft(DependencyProvider):
    def get_dependency(self, worker_ctx: Any) -> float:
        return float(worker_ctx.data.get("deadline", 0)) - time.time()


class Shop:
    name = "shop"
    left = TimeLeft()
    produced = 0
    entered: list[str] = []

    @grpc
    def GetProduct(self, request: pb.ProductRequest, context: Any) -> pb.ProductResponse:
        self.entered.append(request.product_id[:20])
        stock = 0
        match request.product_id:
            case "slow":
                eventlet.sleep(SLOW_SECONDS)
            case "how long":
                stock = int(self.left)
            case "produced":
                stock = Shop.produced
            case "broken":
                raise LookupError("with a secret")
        return pb.ProductResponse(id=request.product_id, stock=stock)

    @grpc
    def ListProducts(self, request: pb.ListProductsRequest, context: Any) -> Iterator[pb.ProductResponse]:
        Shop.produced = 0
        number, _, size = request.query.partition(" of ")
        for stock in range(int(number)):
            Shop.produced += 1
            yield pb.ProductResponse(id="P", name="x" * int(size), stock=stock)
