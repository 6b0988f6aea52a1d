"""Each case of parity_table has the same outcome over every way that can express it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from nameko_mesh.aio import RpcClient
from tests.e2e.parity_table import CASES, PRODUCTS
from tests.e2e.parity_ways import Grpc, Http, Refusal, Rpc, StockRpc, Way
from tests.e2e.parity_words import Refused, Step

WAYS: dict[str, type[Way]] = {"HTTP": Http, "RPC": Rpc, "stock RPC": StockRpc, "gRPC": Grpc}
PLAYED = [
    pytest.param(steps, way, id=f"{name}, over {way}")
    for name, case in CASES.items()
    for steps in [case if isinstance(case, list) else [case]]
    for way in WAYS
    if all(WAYS[way].can_express(step.operation, step.input) for step in steps)
]


@pytest.fixture(scope="session")
def ways(mesh: Any) -> dict[str, Way]:
    return {name: way(mesh) for name, way in WAYS.items()}  # type: ignore[call-arg]


@pytest.fixture
def mark(mesh: Any) -> str:
    """Return the text that replaces `~` in this case, after adding the case's products."""
    mark = f".{uuid4().hex[:12]}"

    async def add_products() -> None:
        async with RpcClient(mesh.settings["AMQP_URI"]) as client:
            for product in marked(PRODUCTS, mark):
                product["product_id"] = product.pop("id")
                await client.call("products", "create_product", product)

    asyncio.run(add_products())
    return mark


@pytest.mark.parametrize(("steps", "way"), PLAYED)
def test_operation_has_the_same_outcome_over_every_way(
    steps: list[Step], way: str, ways: dict[str, Way], mark: str
) -> None:
    for step in steps:
        operation, arguments, expected = marked(step, mark)
        outcome = ways[way].call(operation, arguments)
        assert agrees(outcome, expected), f"{operation} {arguments}: expected {expected}, got {outcome}"


def test_operation_is_played_over_http_or_grpc_too() -> None:
    played = {(step.operation, way) for steps, way in (case.values for case in PLAYED) for step in steps}
    operations = {operation for operation, _ in played}
    assert operations == {operation for operation, way in played if way in ("HTTP", "gRPC")}


def marked(value: Any, mark: str) -> Any:
    """Return the value with the mark in place of each `~`."""
    match value:
        case str():
            return value.replace("~", mark)
        case dict():
            return {key: marked(item, mark) for key, item in value.items()}
        case Refused() | Step():
            return type(value)(*(marked(item, mark) for item in value))
        case list():
            return [marked(item, mark) for item in value]
    return value


def agrees(outcome: Any, expected: Any) -> bool:
    """Return True if an outcome is the expected one, as far as its way transmits it."""
    match expected:
        case Refused(code, field, message):
            return (
                isinstance(outcome, Refusal)
                and (outcome.codes is None or code in outcome.codes)
                and outcome.field in (None, field)
                and outcome.message in (None, message, f"{field}: {message}")
            )
        case dict():
            return isinstance(outcome, Mapping) and all(
                key in outcome and agrees(outcome[key], value) for key, value in expected.items()
            )
        case list():
            return (
                isinstance(outcome, list)
                and len(outcome) == len(expected)
                and all(map(agrees, outcome, expected))
            )
    return bool(outcome == expected)
