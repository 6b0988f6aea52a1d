"""The ways to read a product: gRPC, RPC and a cached copy, all with equal outcomes."""

from __future__ import annotations

import time
from types import SimpleNamespace

import orjson
import pytest

from gateway.clients.batching import BatcherFactory
from gateway.clients.context import CallContext
from gateway.clients.products import Products
from gateway.clients.products_grpc import ProductsOverGrpc
from gateway.clients.stale_cache import MAX_ENTRIES, StaleCache
from nameko_mesh.aio import GuardedRpc
from nameko_mesh.errors import DeadlineExceeded, Overloaded, Refused, RemoteFault, Unavailable
from nameko_mesh.outcome import Outcome
from protos import product_pb2 as pb
from services.products import wire
from services.products.domain import Product, UnknownProduct
from services.rules import Invalid

OUTCOMES = [
    Outcome(Product(id="P001", name="Laptop", price_minor=120050, currency="USD", stock=10, version=7)),
    Outcome(Product(id="a.b_c:d-e", name='"é\n日本 😀', price_minor=0, currency="JPY", stock=0, version=1)),
    Outcome(
        Product(id="P", name="x", price_minor=1234567, currency="KWD", stock=2**31 - 1, version=2**31 - 1)
    ),
    Outcome(Product(id="P", name="x", price_minor=10**15 + 1, currency="EUR", stock=1, version=1)),
    Outcome(error=UnknownProduct("there is no product P404", "product_id")),
    Outcome(error=Invalid("product_id: expected something else", "product_id")),
    Outcome(error=Invalid("no field of it")),
]


async def over_grpc(outcomes):
    """Encode outcomes as the service does, and decode them as the gateway does."""
    sent = pb.BatchGetProductsResponse(results=[wire.product_result(outcome) for outcome in outcomes])

    async def call(method, request, **options):
        return method.read(sent.SerializeToString())

    client = ProductsOverGrpc(SimpleNamespace(call=call), (), None)
    return await client.get_products(["P"], deadline=0, request_id="r")


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: str(outcome.value or outcome.error)[:40])
async def test_outcome_over_grpc_equals_the_outcome_over_rpc(outcome):
    [outcome_over_grpc] = await over_grpc([outcome])

    assert orjson.dumps(outcome_over_grpc) == orjson.dumps(outcome.map(wire.product_to_wire).to_wire())


async def test_empty_result_is_malformed():
    sent = pb.BatchGetProductsResponse(results=[pb.ProductResult()])

    async def call(method, request, **options):
        return sent

    with pytest.raises(RemoteFault):
        await ProductsOverGrpc(SimpleNamespace(call=call), (), None).get_products(
            ["P"], deadline=0, request_id="r"
        )


class Ways:
    """A double of both ways. `grpc` and `rpc` are their results, and `calls` their order."""

    def __init__(self):
        self.grpc = self.rpc = {"name": "fresh"}
        self.calls = []
        self.deadlines = []

    async def get_products(self, product_ids, *, deadline, request_id):
        return self._result("grpc", self.grpc, product_ids, deadline)

    async def call(self, service, method, kwargs, *, deadline, context):
        return self._result("rpc", self.rpc, kwargs["product_ids"], deadline)

    def _result(self, way, result, product_ids, deadline):
        self.calls.append(way)
        self.deadlines.append(deadline - time.time())
        if isinstance(result, Exception):
            raise result
        return [{"ok": result} for _ in product_ids]


@pytest.fixture
def ways():
    return Ways()


@pytest.fixture
def fallbacks():
    return []


@pytest.fixture
def make_products(ways, fallbacks):
    def make(stale_seconds=5.0):
        return Products(
            GuardedRpc(ways),
            BatcherFactory(),
            grpc=ways,
            cache=StaleCache(stale_seconds),
            on_fallback=fallbacks.append,
        )

    return make


def get(products):
    return products.get(CallContext("r", time.time() + 2), "P001")


async def test_product_is_read_over_grpc_alone(make_products, ways, fallbacks):
    result = await get(make_products())

    assert (result.value, result.age) == ({"name": "fresh"}, None)
    assert (ways.calls, fallbacks) == (["grpc"], [])


@pytest.mark.parametrize("error", [Unavailable("x"), DeadlineExceeded("x"), RemoteFault("Bug", "x")])
async def test_rpc_gets_the_remaining_time_when_grpc_fails(make_products, ways, fallbacks, error):
    ways.grpc = error

    result = await get(make_products())

    assert (result.value, result.age) == ({"name": "fresh"}, None)
    assert (ways.calls, fallbacks) == (["grpc", "rpc"], ["rpc"])
    first, second = ways.deadlines
    assert first < 1.1 < 1.9 < second


@pytest.mark.parametrize("error", [Refused("not-result", "no"), Overloaded("full")])
async def test_refusal_and_overload_over_grpc_are_final(make_products, ways, error):
    ways.grpc = error

    with pytest.raises(type(error)):
        await get(make_products())
    assert ways.calls == ["grpc"]


async def test_cached_copy_is_returned_when_both_ways_fail(make_products, ways, fallbacks):
    products = make_products()
    await get(products)
    ways.grpc = ways.rpc = Unavailable("away")

    result = await get(products)

    assert (result.value, result.age) == ({"name": "fresh"}, 0)
    assert fallbacks == ["rpc", "copy"]
    ways.rpc = {"name": "new"}
    assert (await get(products)).value == {"name": "new"}


@pytest.mark.parametrize("stale_seconds", [0, 1e-9])
async def test_expired_or_disabled_copy_is_not_returned(make_products, ways, stale_seconds):
    products = make_products(stale_seconds)
    await get(products)
    ways.grpc = ways.rpc = Unavailable("away")

    with pytest.raises(Unavailable):
        await get(products)


def test_cache_of_copies_is_bounded():
    cache = StaleCache(60)
    for number in range(MAX_ENTRIES + 1):
        cache.put(str(number), {})

    assert cache.get("0") is None
    assert cache.get("1") is not None
