"""The metrics: their names, their labels and their port."""

from __future__ import annotations

import time
import urllib.request
from functools import partial

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.metrics import Metrics, MetricsMiddleware
from mycelium.servers import free_port, port_is_free
from nameko_mesh.aio import STATES, Balancer, Breaker, GuardedRpc
from nameko_mesh.errors import DeadlineExceeded


async def greet(request):
    if request.path_params["name"] == "trouble":
        raise RuntimeError("a bug")
    return PlainTextResponse("hello")


async def metrics_after(*paths):
    metrics = Metrics()
    app = MetricsMiddleware(Starlette(routes=[Route("/greet/{name}", greet)]), metrics)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in paths:
            await client.get(path)
    return metrics


def count(metrics, **labels):
    return metrics.registry.get_sample_value("gateway_request_seconds_count", labels)


async def test_requests_are_counted_by_method_template_and_status():
    metrics = await metrics_after("/greet/alice", "/greet/bob", "/greet/trouble", "/made/up", "/made/up/too")
    known = {"method": "GET", "route": "/greet/{name}"}
    assert count(metrics, **known, status="200") == 2
    assert count(metrics, **known, status="500") == 1
    assert count(metrics, method="any", route="none", status="404") == 2
    assert metrics.registry.get_sample_value("gateway_requests_in_flight") == 0


async def test_calls_are_exported_with_the_state_of_their_breaker():
    class Rpc:
        async def call(self, *args, **options):
            raise DeadlineExceeded("late")

    metrics, rpc = Metrics(), GuardedRpc(Rpc(), make_breaker=partial(Breaker, max_failures=2))
    metrics.watch(rpc, Balancer("products"))
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await rpc.call("orders", "get", {}, deadline=time.time() + 2, context={})
    metrics.on_fallback("copy")

    def value(name, **labels):
        return metrics.registry.get_sample_value(name, labels)

    orders = {"service": "orders", "instance": ""}
    assert value("gateway_target_calls_total", **orders) == 2
    assert value("gateway_target_failures_total", **orders) == 2
    assert value("gateway_target_calls_in_flight", **orders) == 0
    states = {state: value("gateway_breaker", **orders, state=state) for state in STATES}
    assert states == {"closed": 0, "open": 1, "half-open": 0}
    assert value("gateway_retries_total", over="grpc") == 0
    assert value("gateway_fallbacks_total", to="copy") == 1


def test_metrics_are_served_until_the_block_ends():
    metrics, port = Metrics(), free_port()
    metrics.seconds.labels("GET", "/health", "200").observe(0.01)
    url = f"http://127.0.0.1:{port}/metrics"
    with metrics.serve("127.0.0.1", port), urllib.request.urlopen(url, timeout=5) as response:
        assert b"gateway_request_seconds_count" in response.read()
    assert port_is_free(port)
