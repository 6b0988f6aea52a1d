"""The ways to ask for an operation, each with a client that knows nothing of this project but its wire.

A way tells of an operation and its input whether it can be asked for at all, and what came back: a
value as plain data, or a Refusal. What a way does not tell of a refusal is None.
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

SECONDS = 10
_as_json = partial(json.dumps, sort_keys=True)
SERVICES = {"place_order": "orders", "get_order": "orders", "get_user": "users"}
"""Whose operation it is, where it is not one of products."""


class Refusal(NamedTuple):
    codes: Collection[str] | None
    """The slug, as a set; None where the way does not tell it."""
    field: str | None
    message: str | None


class Way(Protocol):
    @staticmethod
    def can_say(operation: str, given: dict[str, Any]) -> bool: ...

    def ask(self, operation: str, given: dict[str, Any]) -> Any: ...


class Http:
    """An operation is a method and a path; what is not in the path goes into the query or the body."""

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
    def can_say(cls, operation: str, given: dict[str, Any]) -> bool:
        """A part of a path is text, some of it, and a slash would end it."""
        if operation not in cls.ROUTES:
            return False
        _, path = cls.ROUTES[operation]
        parts = [value for name, value in given.items() if f"{{{name}}}" in path]
        return all(isinstance(part, str) and part and "/" not in part for part in parts)

    def ask(self, operation: str, given: dict[str, Any]) -> Any:
        method, path = self.ROUTES[operation]
        rest = {name: value for name, value in given.items() if f"{{{name}}}" not in path}
        path = path.format(**{name: quote(str(value), safe="") for name, value in given.items()})
        headers = dict(self._as_admin)
        if key := rest.pop("idempotency_key", None):
            headers["Idempotency-Key"] = key
        if "product_id" in rest:
            rest["id"] = rest.pop("product_id")
        where = {"params": rest} if method == "GET" else {"json": rest}
        answer = self._http.request(method, path, headers=headers, **where)
        return answer.json() if answer.is_success else self._refusal(answer.json())

    @staticmethod
    def _refusal(problem: dict[str, Any]) -> Refusal:
        """Return the refusal of a problem. The gateway's own refusals have messages of their own."""
        code = problem["code"]
        field = problem["errors"][0]["field"] if "errors" in problem else None
        return Refusal({code}, _argument(field), None if code == "validation-failed" else problem["detail"])


class Rpc:
    """Over nameko_mesh.aio."""

    def __init__(self, mesh: Any) -> None:
        self._uri = mesh.settings["AMQP_URI"]

    @staticmethod
    def can_say(operation: str, given: dict[str, Any]) -> bool:
        return True

    def ask(self, operation: str, given: dict[str, Any]) -> Any:
        return asyncio.run(self._ask(SERVICES.get(operation, "products"), operation, given))

    async def _ask(self, service: str, method: str, given: dict[str, Any]) -> Any:
        async with RpcClient(self._uri, name="parity") as client:
            try:
                return _outcomes(await client.call(service, method, given, timeout=SECONDS))
            except errors.Refused as refused:
                return Refusal({refused.slug}, _argument(refused.field), refused.message)


class StockRpc:
    """Over Nameko's own client, which is told the message alone."""

    def __init__(self, mesh: Any) -> None:
        self._uri = mesh.settings["AMQP_URI"]

    @staticmethod
    def can_say(operation: str, given: dict[str, Any]) -> bool:
        return True

    def ask(self, operation: str, given: dict[str, Any]) -> Any:
        with (
            config.patch({"AMQP_URI": self._uri}),
            ServiceRpcClient(SERVICES.get(operation, "products"), timeout=SECONDS) as service,
        ):
            try:
                return _outcomes(getattr(service, operation)(**given))
            except RemoteError as error:
                return Refusal(None, None, error.value)


class Grpc:
    """Over grpcio; what a message has no field for, or a field no type for, can't be said."""

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
    def can_say(cls, operation: str, given: dict[str, Any]) -> bool:
        if operation not in cls.METHODS:
            return False
        try:
            message = cls.METHODS[operation][1](**given)
        except (TypeError, ValueError):
            return False
        return _as_json(_plain(message)) == _as_json(given)

    def ask(self, operation: str, given: dict[str, Any]) -> Any:
        name, request_type = self.METHODS[operation]
        with grpc.insecure_channel(self._address) as channel:
            method = getattr(ProductServiceStub(channel), name)
            try:
                if operation == "list_products":
                    return {"items": [_plain(one) for one in method(request_type(**given), timeout=SECONDS)]}
                answer = _plain(method(request_type(**given), timeout=SECONDS))
            except grpc.RpcError as error:
                return _of_status(error)
        return [_of_result(one) for one in answer["results"]] if operation == "get_products" else answer


def _of_status(error: Any) -> Refusal:
    """The refusal in the details of a gRPC error, whose slug has to agree with the status code."""
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, violations = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(violations)
    slug = info.reason.lower().replace("_", "-")
    if CODES.get(slug, grpc.StatusCode.FAILED_PRECONDITION) is not error.code():
        return Refusal((), None, f"{slug} came with {error.code()}")
    field = violations.field_violations[0].field if violations.field_violations else None
    return Refusal({slug}, field, error.details())


def _of_result(result: dict[str, Any]) -> Any:
    if "product" in result:
        return {"ok": result["product"]}
    return Refusal({result["problem"]["code"]}, None, result["problem"]["message"])


def _plain(message: Message) -> Any:
    """A message as the data that the other ways have: what is set, and of the rest the defaults."""
    return {
        field.name: [_plain_one(one) for one in value] if field.is_repeated else _plain_one(value)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
        for value in [getattr(message, field.name)]
    }


def _plain_one(value: Any) -> Any:
    return _plain(value) if isinstance(value, Message) else value


def _outcomes(answer: Any) -> Any:
    """The items of a batch that failed as refusals."""
    if not isinstance(answer, list):
        return answer
    return [_outcome(**one) for one in answer]


def _outcome(ok: Any = None, error: dict[str, str] | None = None) -> Any:
    if error is None:
        return {"ok": ok}
    return Refusal({error["code"]}, _argument(error.get("field")), error["message"])


def _argument(field: str | None) -> str:
    """The name of an argument, which orders gives as that of the header where it comes from one."""
    return (field or "").lower().replace("-", "_")
