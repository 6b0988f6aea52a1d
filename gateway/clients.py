"""Typed clients of the services, one method for each RPC method that the gateway uses.

They know names and arguments, nothing else: what a failed call means to an HTTP client is said in
`errors`, and what carries the call is anything that is an `Rpc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.errors import RemoteFault, from_public

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What travels with all calls of one request. `deadline` is in Unix seconds."""

    request_id: str
    deadline: float


def text(answer: Json, *path: str) -> str:
    """The string at `path` of what a service answered. Raises RemoteFault when there is none."""
    value: Any = answer
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise RemoteFault("MalformedAnswer", f"an answer lacks {'.'.join(path)}")
    return value


class Rpc(Protocol):
    """Calls a method of a service and waits for its answer. Raises MeshError, and nothing else."""

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        deadline: float,
        context: Mapping[str, str],
    ) -> Any: ...


class ProductReader(Protocol):
    """Where products are read from."""

    async def get(self, context: Context, product_id: str) -> Json: ...

    async def page(self, context: Context, *, limit: int, cursor: str | None, query: str | None) -> Json: ...


class _Client:
    service: str

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def _call(self, context: Context, method: str, **kwargs: Any) -> Json:
        answer = await self._answer(context, method, **kwargs)
        if not isinstance(answer, dict):
            raise RemoteFault("MalformedAnswer", f"{self.service}.{method} answered no object")
        return answer

    async def _answer(self, context: Context, method: str, **kwargs: Any) -> Any:
        return await self._rpc.call(
            self.service,
            method,
            kwargs,
            deadline=context.deadline,
            context={"request_id": context.request_id},
        )


class Products(_Client):
    """Also a ProductReader, the one that needs nothing but RPC."""

    service = "products"

    async def get(self, context: Context, product_id: str) -> Json:
        return await self._call(context, "get_product", product_id=product_id)

    async def page(self, context: Context, *, limit: int, cursor: str | None, query: str | None) -> Json:
        return await self._call(context, "list_products", limit=limit, cursor=cursor, query=query)

    async def create(self, context: Context, command_id: str, product: Json) -> Json:
        return await self._call(context, "create_product", command_id=command_id, **product)

    async def update(self, context: Context, command_id: str, product_id: str, changes: Json) -> Json:
        return await self._call(
            context, "update_product", command_id=command_id, product_id=product_id, **changes
        )

    async def restock(self, context: Context, command_id: str, product_id: str, quantity: int) -> Json:
        return await self._call(
            context, "restock", command_id=command_id, product_id=product_id, quantity=quantity
        )


class Users(_Client):
    service = "users"

    async def authenticate(self, context: Context, email: str, password: str) -> Json:
        return await self._call(context, "authenticate_user", email=email, password=password)

    async def register(self, context: Context, command_id: str, user: Json) -> Json:
        return await self._call(context, "register_user", command_id=command_id, **user)

    async def get(self, context: Context, user_id: str) -> Json:
        return await self._call(context, "get_user", user_id=user_id)

    async def update(self, context: Context, command_id: str, user_id: str, changes: Json) -> Json:
        return await self._call(context, "update_user", command_id=command_id, user_id=user_id, **changes)


class Orders(_Client):
    service = "orders"

    async def place(self, context: Context, order: Json) -> Json:
        """Place one order and wait for its outcome: an order, or its refusal raised as Refused.

        A batch of one: whoever calls this must not care how many travel together.
        """
        match await self._answer(context, "place_orders", orders=[order]):
            case [{"ok": dict() as placed}]:
                return placed
            case [{"error": {"code": str(), "message": str()} as refusal}]:
                raise from_public(refusal)
        raise RemoteFault("MalformedAnswer", "orders.place_orders answered no outcome")

    async def get(self, context: Context, order_id: str) -> Json:
        return await self._call(context, "get_order", order_id=order_id)

    async def page(self, context: Context, user_id: str, *, limit: int, cursor: str | None) -> Json:
        return await self._call(context, "list_orders", user_id=user_id, limit=limit, cursor=cursor)

    async def cancel(self, context: Context, order_id: str) -> Json:
        return await self._call(context, "cancel_order", order_id=order_id)
