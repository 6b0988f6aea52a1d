"""What Prometheus may know: how many requests, how they were answered, how long they took.

Served on a port of its own, so that whoever reaches the gateway does not reach its metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nameko_mesh.aio import STATES, Balancer, GuardedRpc

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds; the deadline of a request is 2."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_STOP_SECONDS = 2.0


class Metrics:
    """The figures of one application, apart from those of any other in the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "gateway_request_seconds",
            "How long requests took",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.batch_items = Histogram(
            "gateway_batch_items",
            "How many calls travelled together",
            ["method"],
            buckets=SIZES,
            registry=self.registry,
        )
        self.in_flight = 0
        Gauge("gateway_requests_in_flight", "Requests not answered yet", registry=self.registry).set_function(
            lambda: self.in_flight
        )
        self.fallbacks = Counter(
            "gateway_fallbacks",
            "Reads of products that went another way",
            ["to"],
            registry=self.registry,
        )
        self._seconds_of = cache(self.seconds.labels)
        """Looking a child up takes longer than observing it does."""

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._seconds_of(method, route, str(status)).observe(seconds)

    def on_batch(self, method: str, size: int) -> None:
        self.batch_items.labels(method).observe(size)

    def on_fallback(self, to: str) -> None:
        self.fallbacks.labels(to).inc()

    def watch(self, rpc: GuardedRpc, balancer: Balancer) -> None:
        """Show what is called and how it is, for as long as the registry lives."""
        self.registry.register(_TargetCollector(rpc, balancer))

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Answer GET /metrics until the block ends. Raises OSError when the port can't be had."""
        server, thread = start_http_server(port, host, self.registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join(_STOP_SECONDS)


class _TargetCollector(Collector):
    """Looks when it is asked: an instance that has gone is in no figure, and no call pays for them."""

    def __init__(self, rpc: GuardedRpc, balancer: Balancer) -> None:
        self._rpc = rpc
        self._balancer = balancer

    def collect(self) -> Iterator[Metric]:
        labels = ["service", "instance"]
        calls = CounterMetricFamily("gateway_target_calls", "Calls, over RPC without instance", labels=labels)
        failures = CounterMetricFamily("gateway_target_failures", "Those that failed", labels=labels)
        seconds = CounterMetricFamily("gateway_target_seconds", "What all of them took", labels=labels)
        in_flight = GaugeMetricFamily("gateway_target_calls_in_flight", "Not answered yet", labels=labels)
        ready = GaugeMetricFamily("gateway_target_ready", "Whether an instance is connected", labels=labels)
        breaker = GaugeMetricFamily(
            "gateway_breaker", "1 for the state a breaker is in", labels=[*labels, "state"]
        )
        retries = CounterMetricFamily("gateway_retries", "Calls sent again", labels=["over"])
        instances, service = self._balancer.instances, self._balancer.service
        guards = [((name, ""), guard) for name, guard in list(self._rpc.breakers.items())]
        guards += [((service, instance.breaker.name), instance.breaker) for instance in instances]
        for where, guard in guards:
            calls.add_metric(where, guard.calls)
            failures.add_metric(where, guard.failures)
            seconds.add_metric(where, guard.seconds)
            in_flight.add_metric(where, guard.in_flight)
            for state in STATES:
                breaker.add_metric([*where, state], guard.state == state)
        for instance in instances:
            ready.add_metric([service, instance.breaker.name], instance.is_ready)
        retries.add_metric(["amqp"], self._rpc.budget.spent)
        retries.add_metric(["grpc"], self._balancer.budget.spent)
        yield from (calls, failures, seconds, in_flight, ready, breaker, retries)


class MetricsMiddleware:
    """Pure ASGI: counts a request under its route's template, never under what a client has made up."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = perf_counter()
        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.in_flight -= 1
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "any"
            self._metrics.observe(method, route, status, perf_counter() - started)
