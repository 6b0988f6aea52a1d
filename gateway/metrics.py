"""Metrics for Prometheus: requests, batches, calls of services and their breakers.

They have a port of their own, so that clients of the gateway cannot read them.
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

from nameko_mesh.aio import STATES, Balancer, Breaker, GuardedRpc

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram of requests, in seconds. A request has a deadline of 2 s by default."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the histogram of batches, in calls."""
_STOP_TIMEOUT_SECONDS = 2.0
_TARGET_LABELS = ["service", "instance"]


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "gateway_request_seconds",
            "Duration of requests",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.batch_items = Histogram(
            "gateway_batch_items",
            "Calls in a batch",
            ["method"],
            buckets=SIZES,
            registry=self.registry,
        )
        self.in_flight = 0
        Gauge(
            "gateway_requests_in_flight", "Requests without a response yet", registry=self.registry
        ).set_function(lambda: self.in_flight)
        self.fallbacks = Counter(
            "gateway_fallbacks",
            "Reads of products that fell back to RPC or to a cached copy",
            ["to"],
            registry=self.registry,
        )
        self._seconds_by_labels = cache(self.seconds.labels)
        """A cache, because `labels` takes as long as `observe` (`python -m bench.tricks.gateway`)."""

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._seconds_by_labels(method, route, str(status)).observe(seconds)

    def on_batch(self, method: str, size: int) -> None:
        self.batch_items.labels(method).observe(size)

    def on_fallback(self, to: str) -> None:
        self.fallbacks.labels(to).inc()

    def watch(self, rpc: GuardedRpc, balancer: Balancer) -> None:
        """Export the calls of each service and instance, and the state of its breaker."""
        self.registry.register(_TargetCollector(rpc, balancer))

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[None]:
        """Serve GET /metrics until the block ends. Raises OSError when the port is not available."""
        server, thread = start_http_server(port, host, self.registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join(_STOP_TIMEOUT_SECONDS)


class _TargetCollector(Collector):
    """Reads the figures at each scrape. A call does no extra work, and a removed instance is not exported."""

    def __init__(self, rpc: GuardedRpc, balancer: Balancer) -> None:
        self._rpc = rpc
        self._balancer = balancer

    def collect(self) -> Iterator[Metric]:
        yield from self._calls()
        ready = GaugeMetricFamily(
            "gateway_target_ready", "1 for an instance that is connected", labels=_TARGET_LABELS
        )
        for instance in self._balancer.instances:
            ready.add_metric([self._balancer.service, instance.breaker.name], instance.is_ready)
        yield ready
        retries = CounterMetricFamily("gateway_retries", "Calls sent again", labels=["over"])
        retries.add_metric(["amqp"], self._rpc.budget.spent)
        retries.add_metric(["grpc"], self._balancer.budget.spent)
        yield retries

    def _calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "gateway_target_calls",
            "Calls of a service; the instance is empty over RPC",
            labels=_TARGET_LABELS,
        )
        failures = CounterMetricFamily("gateway_target_failures", "Calls that failed", labels=_TARGET_LABELS)
        seconds = CounterMetricFamily("gateway_target_seconds", "Duration of calls", labels=_TARGET_LABELS)
        in_flight = GaugeMetricFamily(
            "gateway_target_calls_in_flight", "Calls without a response yet", labels=_TARGET_LABELS
        )
        states = GaugeMetricFamily(
            "gateway_breaker", "1 for the present state of a breaker", labels=[*_TARGET_LABELS, "state"]
        )
        for target, breaker in self._breakers():
            calls.add_metric(target, breaker.calls)
            failures.add_metric(target, breaker.failures)
            seconds.add_metric(target, breaker.seconds)
            in_flight.add_metric(target, breaker.in_flight)
            for state in STATES:
                states.add_metric([*target, state], breaker.state == state)
        yield from (calls, failures, seconds, in_flight, states)

    def _breakers(self) -> Iterator[tuple[tuple[str, str], Breaker]]:
        """Yield the breakers of RPC and of the gRPC instances, each with its values for _TARGET_LABELS."""
        for service, breaker in list(self._rpc.breakers.items()):
            yield (service, ""), breaker
        for instance in self._balancer.instances:
            yield (self._balancer.service, instance.breaker.name), instance.breaker


class MetricsMiddleware:
    """ASGI middleware that counts a request under the template of its route.

    A path that matches no route is counted as "none". Clients cannot create new time series.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = perf_counter()
        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            self._metrics.in_flight -= 1
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "any"
            self._metrics.observe(method, route, status, perf_counter() - started)
