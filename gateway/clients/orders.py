"""The client of orders."""

from __future__ import annotations

from typing import Any

from gateway.clients.base import ServiceClient
from gateway.clients.batching import BatcherFactory
from gateway.clients.context import CallContext, Json
from nameko_mesh.aio import GuardedRpc


class Orders(ServiceClient):
    service = "orders"

    def __init__(self, rpc: GuardedRpc, batching: BatcherFactory) -> None:
        super().__init__(rpc)
        self._placing = batching.of("orders.place_orders", self._place_all)

    async def stop(self) -> None:
        await self._placing.stop()

    async def place(self, context: CallContext, order: Json) -> Json:
        """Place one order and wait for its outcome: an order, or its refusal raised as Refused.

        Those that are placed while others are under way travel together.
        """
        return await self._placing((context, order), context.deadline)

    async def _place_all(self, context: CallContext, orders: list[Json]) -> Any:
        return await self._answer(context, "place_orders", {"orders": orders})

    async def get(self, context: CallContext, order_id: str) -> Json:
        return await self._read(context, "get_order", order_id=order_id)

    async def page(self, context: CallContext, user_id: str, *, limit: int, cursor: str | None) -> Json:
        return await self._read(context, "list_orders", user_id=user_id, limit=limit, cursor=cursor)

    async def cancel(self, context: CallContext, order_id: str) -> Json:
        return await self._call(context, "cancel_order", order_id=order_id)
