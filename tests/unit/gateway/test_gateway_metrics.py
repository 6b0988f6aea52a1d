"""What is counted, under which labels, and where it can be read."""

from __future__ import annotations

import urllib.request

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.metrics import Metered, Metrics
from mycelium.servers import free_port, port_is_free


async def greet(request):
    if request.path_params["name"] == "trouble":
        raise RuntimeError("a bug")
    return PlainTextResponse("hello")


async def asked(*paths):
    metrics = Metrics()
    app = Metered(Starlette(routes=[Route("/greet/{name}", greet)]), metrics)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in paths:
            await client.get(path)
    return metrics


def count(metrics, **labels):
    return metrics.registry.get_sample_value("gateway_request_seconds_count", labels)


async def test_requests_are_counted_by_method_template_and_status():
    metrics = await asked("/greet/alice", "/greet/bob", "/greet/trouble", "/made/up", "/made/up/too")
    known = {"method": "GET", "route": "/greet/{name}"}
    assert count(metrics, **known, status="200") == 2
    assert count(metrics, **known, status="500") == 1
    assert count(metrics, method="any", route="none", status="404") == 2
    assert metrics.registry.get_sample_value("gateway_requests_in_flight") == 0


def test_the_figures_are_served_until_the_end():
    metrics, port = Metrics(), free_port()
    metrics.seconds.labels("GET", "/health", "200").observe(0.01)
    url = f"http://127.0.0.1:{port}/metrics"
    with metrics.served("127.0.0.1", port), urllib.request.urlopen(url, timeout=5) as answer:
        assert b"gateway_request_seconds_count" in answer.read()
    assert port_is_free(port)
