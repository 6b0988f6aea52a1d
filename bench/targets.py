"""The ratios that the mesh has to reach. Each is a line of the report's summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results, Side

MESH, TUTORIAL, STOCK = "mesh", "tutorial", "stock Nameko"
MESH_SERVICE, STOCK_SERVICE = "nameko_mesh.rpc, RpcClient", "stock, RpcClient"
MESH_SERVICE_NAMEKO_CLIENT = "nameko_mesh.rpc, ServiceRpcClient"
STOCK_SERVICE_NAMEKO_CLIENT = "stock, ServiceRpcClient"
GRPC, STOCK_GRPC = "nameko_mesh.grpc", "stock nameko-grpc"

Measure = Callable[[Results], float | None]
"""Returns the measured value, or None if its suite has not run."""


@dataclass(frozen=True, slots=True)
class Target:
    """A measured value, and the limit that it has to reach or to stay below."""

    suite: str
    name: str
    value: float
    measure: Measure
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.at_most else value >= self.value

    @property
    def limit(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.value:g}"


def _rates(suite: str, clients: int, ours: str, theirs: str) -> Measure:
    return lambda results: results.ratio(suite, Side(ours, clients, "rate"), Side(theirs, clients, "rate"))


def _ratio(suite: str, ours: Side, theirs: Side) -> Measure:
    return lambda results: results.ratio(suite, ours, theirs)


def _fact(suite: str, name: str) -> Measure:
    return lambda results: results.facts.get(suite, {}).get(name)


def _growth(results: Results) -> float | None:
    stored = results.facts.get("growth", {})
    few, many = (Side(f"{stored.get(name, 0):,} orders stored", 64, "cost") for name in ("few", "many"))
    return results.ratio("growth", many, few)


_P99_TO_P50 = Side(MESH, 64, "p99"), Side(TUTORIAL, 64, "p50")
_SINGLE_ORDER = Side(MESH, 1, "p50"), Side(TUTORIAL, 1, "p50")
_SINGLE_GRPC_CALL = Side(STOCK_GRPC, 1, "p50"), Side(GRPC, 1, "p50")
_OVERLOAD = Side(MESH, 1024, "rate"), Side(MESH, 256, "rate")

TARGETS = (
    Target("orders", "orders/s, 64 clients: mesh / tutorial", 8, _rates("orders", 64, MESH, TUTORIAL)),
    Target("orders", "orders/s, 64 clients: mesh / stock Nameko", 25, _rates("orders", 64, MESH, STOCK)),
    Target("orders", "orders/s, 256 clients: mesh / tutorial", 12, _rates("orders", 256, MESH, TUTORIAL)),
    Target(
        "orders", "64 clients: p99 of the mesh / p50 of the tutorial", 1, _ratio("orders", *_P99_TO_P50), True
    ),
    Target("orders", "p50, 1 client: mesh / tutorial", 1.3, _ratio("orders", *_SINGLE_ORDER), True),
    Target("reads", "reads/s, 64 clients: mesh / tutorial", 0.9, _rates("reads", 64, MESH, TUTORIAL)),
    Target("overload", "orders/s: 1024 clients / 256 clients", 0.8, _ratio("overload", *_OVERLOAD)),
    Target(
        "rpc",
        "RPC calls/s, 64 in flight: nameko_mesh.rpc / stock service",
        3,
        _rates("rpc", 64, MESH_SERVICE, STOCK_SERVICE),
    ),
    Target(
        "rpc",
        "RPC calls/s, 1 in flight, stock service: RpcClient / ServiceRpcClient",
        10,
        _rates("rpc", 1, STOCK_SERVICE, STOCK_SERVICE_NAMEKO_CLIENT),
    ),
    Target(
        "rpc",
        "RPC calls/s, 64 in flight, nameko_mesh.rpc: RpcClient / ServiceRpcClient",
        10,
        _rates("rpc", 64, MESH_SERVICE, MESH_SERVICE_NAMEKO_CLIENT),
    ),
    Target(
        "grpc",
        "gRPC p50, 1 in flight: stock nameko-grpc / nameko_mesh.grpc",
        10,
        _ratio("grpc", *_SINGLE_GRPC_CALL),
    ),
    Target(
        "grpc",
        "gRPC calls/s, 64 in flight: nameko_mesh.grpc / stock nameko-grpc",
        1,
        _rates("grpc", 64, GRPC, STOCK_GRPC),
    ),
    Target("memory", "MB of the mesh without its servers", 400, _fact("memory", "MB after all orders"), True),
    Target(
        "memory", "memory: after all orders / after a tenth of them", 1.1, _fact("memory", "growth"), True
    ),
    Target("growth", "CPU per order: a million stored / ten thousand stored", 1.1, _growth, True),
)


def verdicts(results: Results, suites: list[str]) -> list[tuple[Target, float, bool]]:
    """Return the measured targets of the suites: the target, its value, and whether it is met."""
    measured = [(target, target.measure(results)) for target in TARGETS if target.suite in suites]
    return [(target, value, target.is_met(value)) for target, value in measured if value is not None]
