"""The same operation, the same answer: each case of parity_table in each way that can ask for it."""

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
    if all(WAYS[way].can_say(step.operation, step.input) for step in steps)
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
        operation, given, outcome = marked(step, mark)
        told = ways[way].ask(operation, given)
        assert agrees(told, outcome), f"{operation} {given}: expected {outcome}, got {told}"


def test_operation_is_played_over_http_or_grpc_too() -> None:
    asked = {(step.operation, way) for steps, way in (one.values for one in PLAYED) for step in steps}
    operations = {operation for operation, _ in asked}
    assert operations == {operation for operation, way in asked if way in ("HTTP", "gRPC")}


def marked(value: Any, mark: str) -> Any:
    """The value with the mark in place of each `~`."""
    match value:
        case str():
            return value.replace("~", mark)
        case dict():
            return {key: marked(one, mark) for key, one in value.items()}
        case Refused() | Step():
            return type(value)(*(marked(one, mark) for one in value))
        case list():
            return [marked(one, mark) for one in value]
    return value


def agrees(told: Any, expected: Any) -> bool:
    """Return whether a result is as expected, in the parts that the protocol transports."""
    match expected:
        case Refused(code, field, message):
            return (
                isinstance(told, Refusal)
                and (told.codes is None or code in told.codes)
                and told.field in (None, field)
                and told.message in (None, message, f"{field}: {message}")
            )
        case dict():
            return isinstance(told, Mapping) and all(
                key in told and agrees(told[key], value) for key, value in expected.items()
            )
        case list():
            return isinstance(told, list) and len(told) == len(expected) and all(map(agrees, told, expected))
    return bool(told == expected)
