"""The ratios that are wanted (issue 4), each in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results

MESH, TUTORIAL, STOCK = "mesh", "tutorial", "stock Nameko"


@dataclass(frozen=True, slots=True)
class Target:
    """`reached` finds the figure; None where its suite has not been run."""

    suite: str
    name: str
    wanted: float
    reached: Callable[[Results], float | None]
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.wanted if self.at_most else value >= self.wanted

    @property
    def wish(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.wanted:g}"


def _ratio(
    suite: str, clients: int, ours: tuple[str, str], theirs: tuple[str, str]
) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(suite, clients, ours, theirs)


def _fact(suite: str, name: str) -> Callable[[Results], float | None]:
    return lambda results: results.facts.get(suite, {}).get(name)


def _orders(clients: int, other: str) -> Callable[[Results], float | None]:
    return _ratio("orders", clients, (MESH, "rate"), (other, "rate"))


def _growth(results: Results) -> float | None:
    few, many = (
        f"{results.facts.get('growth', {}).get(name, 0):,} orders stored" for name in ("few", "many")
    )
    return results.ratio("growth", 64, (many, "cost"), (few, "cost"))


TARGETS = (
    Target("orders", "orders/s at 64 clients: mesh / tutorial", 8, _orders(64, TUTORIAL)),
    Target("orders", "orders/s at 64 clients: mesh / stock Nameko", 25, _orders(64, STOCK)),
    Target("orders", "orders/s at 256 clients: mesh / tutorial", 12, _orders(256, TUTORIAL)),
    Target(
        "orders",
        "an order at 64 clients: the mesh's p99 / the tutorial's p50",
        1,
        _ratio("orders", 64, (MESH, "p99"), (TUTORIAL, "p50")),
        at_most=True,
    ),
    Target(
        "orders",
        "an order alone, p50: mesh / tutorial",
        1.3,
        _ratio("orders", 1, (MESH, "p50"), (TUTORIAL, "p50")),
        at_most=True,
    ),
    Target(
        "reads",
        "reads/s of a product at 64 clients: mesh / tutorial's FastAPI",
        0.9,
        _ratio("reads", 64, (MESH, "rate"), (TUTORIAL, "rate")),
    ),
    Target(
        "rpc",
        "calls/s, 64 in flight, the same client: mesh.rpc / stock service",
        3,
        _ratio("rpc", 64, ("mesh.rpc, RpcClient", "rate"), ("stock, RpcClient", "rate")),
    ),
    Target(
        "rpc",
        "calls/s one at a time, stock service: RpcClient / ServiceRpcClient",
        10,
        _ratio("rpc", 1, ("stock, RpcClient", "rate"), ("stock, ServiceRpcClient", "rate")),
    ),
    Target(
        "rpc",
        "calls/s, 64 in flight, mesh.rpc service: RpcClient / ServiceRpcClient in threads",
        10,
        _ratio("rpc", 64, ("mesh.rpc, RpcClient", "rate"), ("mesh.rpc, ServiceRpcClient", "rate")),
    ),
    Target(
        "grpc",
        "a call alone, p50: stock nameko-grpc / mesh.grpc",
        10,
        _ratio("grpc", 1, ("stock nameko-grpc", "p50"), ("mesh.grpc", "p50")),
    ),
    Target(
        "grpc",
        "calls/s, 64 in flight: mesh.grpc / stock nameko-grpc",
        1,
        _ratio("grpc", 64, ("mesh.grpc", "rate"), ("stock nameko-grpc", "rate")),
    ),
    Target("memory", "MB of the mesh without its servers", 400, _fact("memory", "MB after all orders"), True),
    Target("memory", "MB after all orders / MB after a tenth of them", 1.1, _fact("memory", "growth"), True),
    Target("growth", "CPU an order: a million stored / ten thousand", 1.1, _growth, at_most=True),
)


def verdicts(results: Results, suites: list[str]) -> list[tuple[Target, float, bool]]:
    """Of the suites named: each target with what was reached, and whether that is enough."""
    reached = [(target, target.reached(results)) for target in TARGETS if target.suite in suites]
    return [(target, value, target.is_met(value)) for target, value in reached if value is not None]
