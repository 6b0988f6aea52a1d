"""Reads of products over gRPC, straight from an instance. The outcomes equal those of RPC."""

from __future__ import annotations

from nameko_mesh.aio import Balancer, Discovery, Method
from nameko_mesh.discovery.consul_watch import Endpoint
from nameko_mesh.errors import RemoteFault
from protos import product_pb2 as pb

from .context import Json

_BATCH_GET = Method(
    "/product.ProductService/BatchGetProducts",
    pb.BatchGetProductsRequest.SerializeToString,
    pb.BatchGetProductsResponse.FromString,
)


class ProductsOverGrpc:
    """Starts with the `static` addresses. `discovery`, if there is one, tells `balancer` of changes."""

    def __init__(self, balancer: Balancer, static: tuple[Endpoint, ...], discovery: Discovery | None) -> None:
        self._balancer = balancer
        self._static = static
        self._discovery = discovery

    def start(self) -> None:
        self._balancer.update(self._static)
        if self._discovery is not None:
            self._discovery.start()

    async def stop(self) -> None:
        if self._discovery is not None:
            await self._discovery.stop()
        await self._balancer.stop()

    async def get_products(self, product_ids: list[str], *, deadline: float, request_id: str) -> list[Json]:
        """Return an outcome for each id, in the order of the ids. Raises MeshError."""
        response = await self._balancer.call(
            _BATCH_GET,
            pb.BatchGetProductsRequest(product_ids=product_ids),
            deadline=deadline,
            context={"request_id": request_id},
            may_repeat=True,
        )
        return [_to_outcome(result) for result in response.results]


def _to_outcome(result: pb.ProductResult) -> Json:
    match result.WhichOneof("outcome"):
        case "product":
            product = result.product
            return {
                "ok": {
                    "id": product.id,
                    "name": product.name,
                    "price": product.price,
                    "price_minor": product.price_minor,
                    "currency": product.currency,
                    "stock": product.stock,
                    "version": product.version,
                }
            }
        case "problem":
            problem = result.problem
            error = {"code": problem.code, "message": problem.message}
            return {"error": error | {"field": problem.field} if problem.field else error}
    raise RemoteFault("MalformedAnswer", "BatchGetProducts returned neither a product nor a problem")
