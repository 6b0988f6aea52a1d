"""The client of orders."""

from __future__ import annotations

from typing import Any

from nameko_mesh.aio import GuardedRpc

from .base import ServiceClient
from .batching import BatcherFactory
from .context import CallContext, Json


class Orders(ServiceClient):
    service = "orders"

    def __init__(self, rpc: GuardedRpc, batchers: BatcherFactory) -> None:
        super().__init__(rpc)
        self._place_in_batch = batchers.make("orders.place_orders", self._place_all)

    async def stop(self) -> None:
        await self._place_in_batch.stop()

    async def place(self, context: CallContext, order: Json) -> Json:
        """Place an order, and return it once its outcome is known. Raises Refused when it is refused.

        Orders that arrive while others are under way travel in one batch.
        """
        return await self._place_in_batch((context, order), context.deadline)

    async def _place_all(self, context: CallContext, orders: list[Json]) -> Any:
        return await self._request(context, "place_orders", {"orders": orders})

    async def get(self, context: CallContext, order_id: str) -> Json:
        return await self._read(context, "get_order", order_id=order_id)

    async def page(self, context: CallContext, user_id: str, *, limit: int, cursor: str | None) -> Json:
        return await self._read(context, "list_orders", user_id=user_id, limit=limit, cursor=cursor)

    async def cancel(self, context: CallContext, order_id: str) -> Json:
        return await self._call(context, "cancel_order", order_id=order_id)
