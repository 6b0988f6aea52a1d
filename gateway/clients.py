"""Typed clients of the services, one method for each RPC method that the gateway uses.

They know names and arguments, nothing else: what a failed call means to an HTTP client is said in
`errors`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from nameko_mesh.aio.batching import Batcher
from nameko_mesh.aio.guarding import GuardedRpc
from nameko_mesh.errors import (
    DeadlineExceeded,
    MeshError,
    Overloaded,
    Refused,
    RemoteFault,
    Unavailable,
    from_public,
)
from nameko_mesh.values import value

from .copies import Copies, Found
from .products_grpc import ProductsOverGrpc

log = logging.getLogger(__name__)

Json = dict[str, Any]

STALLED_SECONDS = 0.5
"""When products have not been answered for so long, who asks next gets a copy at once, or is sent away.
Orders are not: what is accepted now is confirmed when products is back."""
_LONGEST_METADATA = 2048
"""Characters of the request ids of a batch: a server takes only so many headers."""


@value
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


@dataclass(frozen=True, slots=True)
class Batching:
    """How calls of one method are gathered; see nameko_mesh.aio.batching. `on_batch` is told method and size."""

    most: int = 100
    lanes: int = 3
    on_batch: Callable[[str, int], None] = lambda method, size: None

    def of(
        self,
        method: str,
        send: Callable[[Context, list[Any]], Awaitable[Any]],
        *,
        stalled_after: float = inf,
    ) -> Batcher[tuple[Context, Any], Json]:
        """Gathers items of one method, whose plural `send` calls, and deals the outcomes out again."""

        async def carry(
            asked: Sequence[tuple[Context, Any]], deadline: float
        ) -> Sequence[Json | Refused | RemoteFault]:
            context = Context(" ".join(own.request_id for own, _ in asked), deadline)
            outcomes = await send(context, [item for _, item in asked])
            return [_outcome(outcome) for outcome in outcomes] if isinstance(outcomes, list) else []

        return Batcher(
            carry,
            most=self.most,
            lanes=self.lanes,
            stalled_after=stalled_after,
            on_batch=lambda size: self.on_batch(method, size),
        )


def _outcome(outcome: Any) -> Json | Refused | RemoteFault:
    match outcome:
        case {"ok": dict() as value}:
            return value
        case {"error": {"code": str(), "message": str()} as refusal}:
            return from_public(refusal)
    return RemoteFault("MalformedAnswer", "an answer has neither a value nor an error")


class _Client:
    service: str

    def __init__(self, rpc: GuardedRpc) -> None:
        self._rpc = rpc

    async def _call(self, context: Context, method: str, **kwargs: Any) -> Json:
        return self._object(method, await self._answer(context, method, kwargs))

    async def _read(self, context: Context, method: str, **kwargs: Any) -> Json:
        """For what changes nothing: it may be asked twice."""
        return self._object(method, await self._answer(context, method, kwargs, may_repeat=True))

    async def _answer(self, context: Context, method: str, kwargs: Json, *, may_repeat: bool = False) -> Any:
        return await self._rpc.call(
            self.service,
            method,
            kwargs,
            deadline=context.deadline,
            context={"request_id": context.request_id},
            may_repeat=may_repeat,
        )

    def _object(self, method: str, answer: Any) -> Json:
        if not isinstance(answer, dict):
            raise RemoteFault("MalformedAnswer", f"{self.service}.{method} answered no object")
        return answer


class Products(_Client):
    """A product is read over gRPC where `direct` is given; by RPC when nobody answers there; and when
    nobody answers at all, it is what `copies` still has of it. `on_fallback` is told of the latter two.
    """

    service = "products"

    def __init__(
        self,
        rpc: GuardedRpc,
        batching: Batching,
        *,
        direct: ProductsOverGrpc | None,
        copies: Copies,
        on_fallback: Callable[[str], None],
    ) -> None:
        super().__init__(rpc)
        self._direct = direct
        self._copies = copies
        self._on_fallback = on_fallback
        self._reading = batching.of("products.get_products", self._get_all, stalled_after=STALLED_SECONDS)

    def start(self) -> None:
        if self._direct is not None:
            self._direct.start()

    async def stop(self) -> None:
        await self._reading.stop()
        if self._direct is not None:
            await self._direct.stop()

    async def get(self, context: Context, product_id: str) -> Found:
        """As it is now: what is asked for together is read together. Only what nobody can be asked for
        is a copy of what was read some seconds ago, and says so.
        """
        try:
            product = await self._reading((context, product_id), context.deadline)
        except (Unavailable, DeadlineExceeded) as error:
            copy = None if isinstance(error, Overloaded) else self._copies.recent(product_id)
            if copy is None:
                raise
            self._on_fallback("copy")
            return copy
        self._copies.keep(product_id, product)
        return Found(product)

    async def _get_all(self, context: Context, product_ids: list[str]) -> list[Any]:
        distinct = list(dict.fromkeys(product_ids))
        answers = await self._read_all(context, distinct)
        if not isinstance(answers, list) or len(answers) != len(distinct):
            raise RemoteFault("MalformedAnswer", "products.get_products answered no outcomes")
        found = dict(zip(distinct, answers, strict=True))
        return [found[product_id] for product_id in product_ids]

    async def _read_all(self, context: Context, product_ids: list[str]) -> Any:
        if self._direct is not None:
            now = time.time()
            half = now + (context.deadline - now) / 2  # the other half is for the other way
            try:
                return await self._direct.get_products(
                    product_ids, deadline=half, request_id=context.request_id[:_LONGEST_METADATA]
                )
            except (Refused, Overloaded):
                raise
            except MeshError as error:
                log.debug("products does not answer over gRPC: %s", error)
                self._on_fallback("rpc")
        return await self._answer(context, "get_products", {"product_ids": product_ids}, may_repeat=True)

    async def page(self, context: Context, *, limit: int, cursor: str | None, query: str | None) -> Json:
        return await self._read(context, "list_products", limit=limit, cursor=cursor, query=query)

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
        return await self._read(context, "get_user", user_id=user_id)

    async def update(self, context: Context, command_id: str, user_id: str, changes: Json) -> Json:
        return await self._call(context, "update_user", command_id=command_id, user_id=user_id, **changes)


class Orders(_Client):
    service = "orders"

    def __init__(self, rpc: GuardedRpc, batching: Batching) -> None:
        super().__init__(rpc)
        self._placing = batching.of("orders.place_orders", self._place_all)

    async def stop(self) -> None:
        await self._placing.stop()

    async def place(self, context: Context, order: Json) -> Json:
        """Place one order and wait for its outcome: an order, or its refusal raised as Refused.

        Those that are placed while others are under way travel together.
        """
        return await self._placing((context, order), context.deadline)

    async def _place_all(self, context: Context, orders: list[Json]) -> Any:
        return await self._answer(context, "place_orders", {"orders": orders})

    async def get(self, context: Context, order_id: str) -> Json:
        return await self._read(context, "get_order", order_id=order_id)

    async def page(self, context: Context, user_id: str, *, limit: int, cursor: str | None) -> Json:
        return await self._read(context, "list_orders", user_id=user_id, limit=limit, cursor=cursor)

    async def cancel(self, context: Context, order_id: str) -> Json:
        return await self._call(context, "cancel_order", order_id=order_id)
