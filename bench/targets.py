"""The ratios that are wanted, each in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results, Side

MESH, TUTORIAL, STOCK = "mesh", "tutorial", "stock Nameko"
LEAN_NEW, STOCK_NEW = "nameko_mesh.rpc.entrypoint, RpcClient", "stock, RpcClient"
LEAN_OLD, STOCK_OLD = "nameko_mesh.rpc.entrypoint, ServiceRpcClient", "stock, ServiceRpcClient"
GRPC, STOCK_GRPC = "nameko_mesh.grpc.entrypoint", "stock nameko-grpc"

Reached = Callable[[Results], float | None]
"""The figure; None where its suite has not been run."""


@dataclass(frozen=True, slots=True)
class Target:
    suite: str
    name: str
    wanted: float
    reached: Reached
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.wanted if self.at_most else value >= self.wanted

    @property
    def wish(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.wanted:g}"


def _rates(suite: str, clients: int, ours: str, theirs: str) -> Reached:
    return lambda results: results.ratio(suite, Side(ours, clients, "rate"), Side(theirs, clients, "rate"))


def _ratio(suite: str, ours: Side, theirs: Side) -> Reached:
    return lambda results: results.ratio(suite, ours, theirs)


def _fact(suite: str, name: str) -> Reached:
    return lambda results: results.facts.get(suite, {}).get(name)


def _growth(results: Results) -> float | None:
    stored = results.facts.get("growth", {})
    few, many = (Side(f"{stored.get(name, 0):,} orders stored", 64, "cost") for name in ("few", "many"))
    return results.ratio("growth", many, few)


_P99_AND_P50 = Side(MESH, 64, "p99"), Side(TUTORIAL, 64, "p50")
_ALONE = Side(MESH, 1, "p50"), Side(TUTORIAL, 1, "p50")
_GRPC_ALONE = Side(STOCK_GRPC, 1, "p50"), Side(GRPC, 1, "p50")
_OVERLOAD = Side(MESH, 1024, "rate"), Side(MESH, 256, "rate")

TARGETS = (
    Target("orders", "orders/s at 64: mesh / tutorial", 8, _rates("orders", 64, MESH, TUTORIAL)),
    Target("orders", "orders/s at 64: mesh / stock Nameko", 25, _rates("orders", 64, MESH, STOCK)),
    Target("orders", "orders/s at 256: mesh / tutorial", 12, _rates("orders", 256, MESH, TUTORIAL)),
    Target("orders", "at 64: the mesh's p99 / the tutorial's p50", 1, _ratio("orders", *_P99_AND_P50), True),
    Target("orders", "p50 of an order alone: mesh / tutorial", 1.3, _ratio("orders", *_ALONE), True),
    Target("reads", "reads/s at 64: mesh / tutorial's FastAPI", 0.9, _rates("reads", 64, MESH, TUTORIAL)),
    Target("overload", "good orders/s: 1024 clients / 256", 0.8, _ratio("overload", *_OVERLOAD)),
    Target(
        "rpc",
        "calls/s at 64: nameko_mesh.rpc.entrypoint / stock service",
        3,
        _rates("rpc", 64, LEAN_NEW, STOCK_NEW),
    ),
    Target(
        "rpc",
        "calls/s alone, stock service: RpcClient / ServiceRpcClient",
        10,
        _rates("rpc", 1, STOCK_NEW, STOCK_OLD),
    ),
    Target(
        "rpc",
        "calls/s at 64, nameko_mesh.rpc.entrypoint: RpcClient / ServiceRpcClient",
        10,
        _rates("rpc", 64, LEAN_NEW, LEAN_OLD),
    ),
    Target(
        "grpc",
        "p50 of a call alone: stock nameko-grpc / nameko_mesh.grpc.entrypoint",
        10,
        _ratio("grpc", *_GRPC_ALONE),
    ),
    Target(
        "grpc",
        "calls/s at 64: nameko_mesh.grpc.entrypoint / stock nameko-grpc",
        1,
        _rates("grpc", 64, GRPC, STOCK_GRPC),
    ),
    Target("memory", "MB of the mesh without its servers", 400, _fact("memory", "MB after all orders"), True),
    Target("memory", "MB after all orders / after a tenth", 1.1, _fact("memory", "growth"), True),
    Target("growth", "CPU an order: a million stored / ten thousand", 1.1, _growth, True),
)


def verdicts(results: Results, suites: list[str]) -> list[tuple[Target, float, bool]]:
    """Of the suites named: each target with what was reached, and whether that is enough."""
    reached = [(target, target.reached(results)) for target in TARGETS if target.suite in suites]
    return [(target, value, target.is_met(value)) for target, value in reached if value is not None]
