"""The entrypoints of orders: decode, delegate, encode."""

from __future__ import annotations

from typing import Any

from nameko.timer import timer

from nameko_mesh.events import batch_handler, event_handler
from nameko_mesh.outbox import OutboxRelay, PublishingDatabase
from nameko_mesh.outcome import Outcome
from nameko_mesh.paging import checked_limit, decode_cursor, page
from nameko_mesh.rpc import ServiceClient, rpc
from nameko_mesh.runtime import Presence
from services.orders import commands, recovery, saga, wire
from services.orders.domain import Order
from services.orders.store import OrdersStore


class OrdersService:
    name = "orders"

    store = PublishingDatabase(OrdersStore)
    products = ServiceClient("products", timeout=1.5, spare=saga.WRITE_SECONDS)
    users = ServiceClient("users", timeout=1.0, spare=saga.WRITE_SECONDS)
    relay = OutboxRelay()
    presence = Presence()

    @rpc
    def place_order(
        self, user_id: str, items: list[dict[str, Any]], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        order = {"user_id": user_id, "items": items, "idempotency_key": idempotency_key}
        return wire.order_to_wire(self._place([order])[0].unwrap())

    @rpc
    def place_orders(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [outcome.map(wire.order_to_wire).to_wire() for outcome in self._place(orders)]

    @rpc
    def get_order(self, order_id: str) -> dict[str, Any]:
        return wire.order_to_wire(commands.get_order(self.store, order_id))

    @rpc
    def list_orders(self, user_id: str, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        size = checked_limit(limit)
        before = wire.position_from_cursor(decode_cursor(cursor, parts=2))
        orders = commands.list_orders(self.store, user_id, before, size + 1)
        return page(orders, size, wire.order_to_wire, wire.position_of)

    @rpc
    def cancel_order(self, order_id: str) -> dict[str, Any]:
        return wire.order_to_wire(commands.cancel_order(self.store, order_id))

    @event_handler("users", "user_registered")
    def on_user_registered(self, event: dict[str, Any]) -> None:
        commands.learn_customer(self.store, wire.customer_from_event(event))

    @event_handler("users", "user_updated")
    def on_user_updated(self, event: dict[str, Any]) -> None:
        commands.learn_customer(self.store, wire.customer_from_event(event))

    @batch_handler("products", "stocks_reserved", for_ever=True)
    def on_stocks_reserved(self, events: list[dict[str, Any]]) -> None:
        reserved, reserved_at = wire.reserved_orders(events), wire.latest(events)
        recovery.complete_reserved(self.store, self.products, self.users, reserved, reserved_at)

    @timer(interval=1)
    def sweep(self) -> None:
        recovery.sweep_all(self.store, self.products)

    def _place(self, orders: list[Any]) -> list[Outcome[Order]]:
        requests = Outcome.of_each(wire.request_from_wire, orders)
        return saga.place_orders(self.store, self.products, self.users, requests)
