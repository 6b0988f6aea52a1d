"""Services of stock Nameko for the gateway to call.

The product decides about an order: SLOW takes 4 s, HALF half a second, NONE is out of stock, CRASH raises an
error. Each order that arrives leaves a file in STUBS_DIR, named after its idempotency key.
"""

import os
from pathlib import Path

import eventlet
from nameko.events import EventDispatcher
from nameko.rpc import rpc

ARRIVED = Path(os.environ["STUBS_DIR"])


def an_order(order_id, status):
    return {
        "order_id": order_id,
        "status": status,
        "user": {"id": "U001", "name": "Alice", "email": "alice@example.com"},
        "items": [],
        "total_price": 1.0,
        "total_minor": 100,
        "currency": "USD",
        "created_at": "2026-01-01T00:00:00Z",
    }


class Orders:
    name = "orders"

    dispatch = EventDispatcher()

    @rpc
    def place_orders(self, orders):
        return [self._place(**order) for order in orders]

    @rpc
    def get_order(self, order_id):
        return an_order(order_id, "confirmed")

    @rpc
    def cancel_order(self, order_id):
        event = {
            "event_id": "e-1",
            "type": "order_cancelled",
            "version": 1,
            "occurred_at": "2026-01-01T00:00:01Z",
            "aggregate_id": order_id,
            "aggregate_version": 3,
            "data": {"order_id": order_id, "user_id": "U001", "status": "cancelled"},
        }
        self.dispatch("order_cancelled", event)
        return an_order(order_id, "cancelled")

    def _place(self, user_id, items, idempotency_key):
        (ARRIVED / idempotency_key).touch()
        product_id = items[0]["product_id"]
        if product_id == "NONE":
            return {"error": {"code": "out-of-stock", "message": "NONE is short"}}
        eventlet.sleep({"SLOW": 4, "HALF": 0.5}.get(product_id, 0))
        if product_id == "CRASH":
            raise ZeroDivisionError("a secret")
        return {"ok": an_order("o-1", "confirmed")}


class Products:
    name = "products"

    @rpc
    def get_products(self, product_ids):
        fields = {
            "name": "Laptop",
            "price": 1200.5,
            "price_minor": 120050,
            "currency": "USD",
            "stock": 10,
            "version": 1,
        }
        return [{"ok": {"id": product_id, **fields}} for product_id in product_ids]
