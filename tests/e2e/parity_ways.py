"""The ways to call an operation: HTTP, RPC, stock RPC and gRPC, each through an independent client.

A way says whether it can express an operation with its input. A call returns plain data or a Refusal. The
parts of a refusal that a way does not transmit are None.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import grpc
import httpx
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from nameko import config
from nameko.exceptions import RemoteError
from nameko.standalone.rpc import ServiceRpcClient

from nameko_mesh import errors
from nameko_mesh.aio import RpcClient
from nameko_mesh.grpc import CODES
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub

TIMEOUT_SECONDS = 10
_as_json = partial(json.dumps, sort_keys=True)
SERVICES = {"place_order": "orders", "get_order": "orders", "get_user": "users"}
"""The service of each operation that is not an operation of products."""


class Refusal(NamedTuple):
    codes: Collection[str] | None
    """The possible slugs. None if the way transmits none."""
    field: str | None
    message: str | None


class Way(Protocol):
    @staticmethod
    def can_express(operation: str, arguments: dict[str, Any]) -> bool: ...

    def call(self, operation: str, arguments: dict[str, Any]) -> Any: ...


class Http:
    """An operation is a method and a path. Other arguments go into the query or the body."""

    ROUTES = {
        "get_product": ("GET", "/products/{product_id}"),
        "list_products": ("GET", "/products"),
        "create_product": ("POST", "/products"),
        "update_product": ("PATCH", "/products/{product_id}"),
        "place_order": ("POST", "/orders"),
        "get_order": ("GET", "/orders/{order_id}"),
        "get_user": ("GET", "/users/{user_id}"),
    }

    def __init__(self, mesh: Any) -> None:
        self._http: httpx.Client = mesh.http
        self._as_admin = mesh.as_user("admin")

    @classmethod
    def can_express(cls, operation: str, arguments: dict[str, Any]) -> bool:
        """Return False for an argument in the path that is empty, no text, or has a slash in it."""
        if operation not in cls.ROUTES:
            return False
        _, path = cls.ROUTES[operation]
        parts = [value for name, value in arguments.items() if f"{{{name}}}" in path]
        return all(isinstance(part, str) and part and "/" not in part for part in parts)

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        method, path = self.ROUTES[operation]
        other_arguments = {name: value for name, value in arguments.items() if f"{{{name}}}" not in path}
        path = path.format(**{name: quote(str(value), safe="") for name, value in arguments.items()})
        headers = dict(self._as_admin)
        if key := other_arguments.pop("idempotency_key", None):
            headers["Idempotency-Key"] = key
        if "product_id" in other_arguments:
            other_arguments["id"] = other_arguments.pop("product_id")
        content = {"params": other_arguments} if method == "GET" else {"json": other_arguments}
        response = self._http.request(method, path, headers=headers, **content)
        return response.json() if response.is_success else self._refusal(response.json())

    @staticmethod
    def _refusal(problem: dict[str, Any]) -> Refusal:
        """Return the refusal of a problem. The gateway's own refusals have messages of their own."""
        code = problem["code"]
        field = problem["errors"][0]["field"] if "errors" in problem else None
        return Refusal({code}, _argument(field), None if code == "validation-failed" else problem["detail"])


class Rpc:
    """Calls through nameko_mesh.aio."""

    def __init__(self, mesh: Any) -> None:
        self._uri = mesh.settings["AMQP_URI"]

    @staticmethod
    def can_express(operation: str, arguments: dict[str, Any]) -> bool:
        return True

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return asyncio.run(self._call(SERVICES.get(operation, "products"), operation, arguments))

    async def _call(self, service: str, method: str, arguments: dict[str, Any]) -> Any:
        async with RpcClient(self._uri, name="parity") as client:
            try:
                return _parse_outcomes(await client.call(service, method, arguments, timeout=TIMEOUT_SECONDS))
            except errors.Refused as refused:
                return Refusal({refused.slug}, _argument(refused.field), refused.message)


class StockRpc:
    """Calls through Nameko's own client, to which an error is a message alone."""

    def __init__(self, mesh: Any) -> None:
        self._uri = mesh.settings["AMQP_URI"]

    @staticmethod
    def can_express(operation: str, arguments: dict[str, Any]) -> bool:
        return True

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        with (
            config.patch({"AMQP_URI": self._uri}),
            ServiceRpcClient(SERVICES.get(operation, "products"), timeout=TIMEOUT_SECONDS) as service,
        ):
            try:
                return _parse_outcomes(getattr(service, operation)(**arguments))
            except RemoteError as error:
                return Refusal(None, None, error.value)


class Grpc:
    """Calls through grpcio. A message can only express arguments that have a field of the right type."""

    METHODS = {
        "get_product": ("GetProduct", pb.ProductRequest),
        "get_products": ("BatchGetProducts", pb.BatchGetProductsRequest),
        "list_products": ("ListProducts", pb.ListProductsRequest),
        "reserve_stock": ("ReserveStock", pb.ReserveStockRequest),
        "release_stock": ("ReleaseStock", pb.ReleaseStockRequest),
    }

    def __init__(self, mesh: Any) -> None:
        self._address = mesh.settings["PRODUCTS_GRPC"].split(",")[0]

    @classmethod
    def can_express(cls, operation: str, arguments: dict[str, Any]) -> bool:
        if operation not in cls.METHODS:
            return False
        try:
            message = cls.METHODS[operation][1](**arguments)
        except (TypeError, ValueError):
            return False
        return _as_json(_plain(message)) == _as_json(arguments)

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        name, request_type = self.METHODS[operation]
        with grpc.insecure_channel(self._address) as channel:
            method = getattr(ProductServiceStub(channel), name)
            try:
                if operation == "list_products":
                    return {
                        "items": [
                            _plain(product)
                            for product in method(request_type(**arguments), timeout=TIMEOUT_SECONDS)
                        ]
                    }
                response = _plain(method(request_type(**arguments), timeout=TIMEOUT_SECONDS))
            except grpc.RpcError as error:
                return _parse_status(error)
        if operation != "get_products":
            return response
        return [_parse_result(result) for result in response["results"]]


def _parse_status(error: Any) -> Refusal:
    """Return the refusal in the details of a gRPC error. Its slug must agree with the status code."""
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, violations = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(violations)
    slug = info.reason.lower().replace("_", "-")
    if CODES.get(slug, grpc.StatusCode.FAILED_PRECONDITION) is not error.code():
        return Refusal((), None, f"{slug} came with {error.code()}")
    field = violations.field_violations[0].field if violations.field_violations else None
    return Refusal({slug}, field, error.details())


def _parse_result(result: dict[str, Any]) -> Any:
    if "product" in result:
        return {"ok": result["product"]}
    return Refusal({result["problem"]["code"]}, None, result["problem"]["message"])


def _plain(message: Message) -> Any:
    """Return a message as plain data: its set fields, and the defaults of fields without presence."""
    return {
        field.name: [_plain_value(item) for item in value] if field.is_repeated else _plain_value(value)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
        for value in [getattr(message, field.name)]
    }


def _plain_value(value: Any) -> Any:
    return _plain(value) if isinstance(value, Message) else value


def _parse_outcomes(result: Any) -> Any:
    """Return a result in which the failed items of a batch are refusals."""
    if not isinstance(result, list):
        return result
    return [_parse_outcome(**item) for item in result]


def _parse_outcome(ok: Any = None, error: dict[str, str] | None = None) -> Any:
    if error is None:
        return {"ok": ok}
    return Refusal({error["code"]}, _argument(error.get("field")), error["message"])


def _argument(field: str | None) -> str:
    """Return the name of an argument. An error of orders names the header `Idempotency-Key` instead."""
    return (field or "").lower().replace("-", "_")
