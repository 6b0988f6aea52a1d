"""The suites by name. A suite returns its samples and its facts."""

from __future__ import annotations

from collections.abc import Callable

from bench.options import Options
from bench.results import Sample
from bench.suites import clients, events, grpc, http, inside, rpc

Suite = Callable[[Options], tuple[list[Sample], dict[str, float]]]

SUITES: dict[str, Suite] = {
    "orders": http.orders,
    "reads": http.reads,
    "overload": http.overload,
    "gateways": http.gateways,
    "clients": clients.clients,
    "rpc": rpc.rpc,
    "grpc": grpc.grpc,
    "events": events.events,
    "messages": inside.messages,
    "memory": inside.memory,
    "growth": inside.growth,
}
