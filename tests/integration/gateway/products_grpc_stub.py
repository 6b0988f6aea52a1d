"""An instance of products that answers gRPC alone: `python products_grpc_stub.py PORT`.

The name of each product is the id of the process.
"""

import asyncio
import os
import sys

import grpc
import grpc.aio

from protos import product_pb2 as pb


async def get_products(request, context):
    products = [
        pb.ProductResponse(id=product_id, name=str(os.getpid())) for product_id in request.product_ids
    ]
    return pb.BatchGetProductsResponse(results=[pb.ProductResult(product=product) for product in products])


async def main(port):
    accept_all_pings = [("grpc.http2.max_ping_strikes", 0)]  # as nameko-grpc does
    server = grpc.aio.server(options=accept_all_pings)
    handler = grpc.unary_unary_rpc_method_handler(
        get_products, pb.BatchGetProductsRequest.FromString, pb.BatchGetProductsResponse.SerializeToString
    )
    handlers = {"BatchGetProducts": handler}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("product.ProductService", handlers),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("serving", flush=True)
    await server.wait_for_termination()


asyncio.run(main(sys.argv[1]))
