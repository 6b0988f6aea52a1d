"""Doubles of products and users, for placing orders without them.

test_doubles runs the same suite against the double of products and the real service.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nameko_mesh.outcome import Outcome
from services.orders import saga
from services.orders.tables import orders

NAME, UNIT_PRICE_MINOR, CURRENCY = "Laptop", 500, "USD"
"""The name, price and currency of every product of the double."""

BOB = {"id": "U002", "name": "Bob", "email": "bob@example.com", "version": 1}


class ProductsDouble:
    """Products that has the same stock of every product. With an `error` each call raises it.

    All products have one name and one price. A reservation is decided once per order id, as products does
    it. The double knows no cancelled orders.
    """

    def __init__(self, stock: int = 100, error: Exception | None = None) -> None:
        self.stock = stock
        """On hand of each product before the first order. A test may raise it later."""
        self.error = error
        self.decisions: dict[str, tuple[dict[str, Any], dict[str, int]]] = {}
        """The answer and the requested quantities, by order id."""
        self.taken: dict[str, int] = {}
        """Reserved so far, by product id."""
        self.requested: list[str] = []

    def reserve_stocks(self, *, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.requested += [order["order_id"] for order in orders]
        if self.error:
            raise self.error
        return [self._decide(order) for order in orders]

    def left(self, product_id: str = "P001") -> int:
        return self.stock - self.taken.get(product_id, 0)

    def copy(self) -> ProductsDouble:
        """The same products with the same decisions, without an error."""
        copy = ProductsDouble(stock=self.stock)
        copy.decisions, copy.taken = self.decisions, self.taken
        return copy

    def _decide(self, order: dict[str, Any]) -> dict[str, Any]:
        order_id, quantities = order["order_id"], _quantities(order["items"])
        if order_id not in self.decisions:
            self.decisions[order_id] = self._decide_new(order_id, quantities), quantities
        answer, decided_quantities = self.decisions[order_id]
        if order.get("exact") and decided_quantities != quantities:
            return _refusal("idempotency-key-reused", "items")
        return answer

    def _decide_new(self, order_id: str, quantities: dict[str, int]) -> dict[str, Any]:
        if any(quantity > self.left(product_id) for product_id, quantity in quantities.items()):
            return _refusal("out-of-stock", "quantity")
        for product_id, quantity in quantities.items():
            self.taken[product_id] = self.taken.get(product_id, 0) + quantity
        items = [reserved_line(product_id, quantity) for product_id, quantity in quantities.items()]
        return {"ok": {"order_id": order_id, "items": items, "currency": CURRENCY}}


def reserved_line(product_id: str, quantity: int) -> dict[str, Any]:
    return {
        "product_id": product_id,
        "name": NAME,
        "quantity": quantity,
        "unit_price_minor": UNIT_PRICE_MINOR,
    }


def _quantities(items: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Add up the quantities of each product, in id order."""
    quantities: dict[str, int] = {}
    for item in sorted(items, key=lambda item: item["product_id"]):
        quantities[item["product_id"]] = quantities.get(item["product_id"], 0) + item["quantity"]
    return quantities


def _refusal(code: str, field: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"the double refuses: {code}", "field": field}}


class UsersDouble:
    """Users with these users. With an `error` each call raises it."""

    def __init__(self, users=(), error=None):
        self.users = {user["id"]: user for user in users}
        self.error = error
        self.requested = []

    def get_users(self, *, user_ids):
        self.requested.append(user_ids)
        if self.error:
            raise self.error
        missing = {"error": {"code": "not-found", "message": "there is no such user"}}
        return [{"ok": self.users[user_id]} if user_id in self.users else missing for user_id in user_ids]


def place(store, *requests, products=None, users=None):
    """Place the requests as one batch. Returns an outcome for each."""
    outcomes = [Outcome(request) for request in requests]
    return saga.place_orders(store, products or ProductsDouble(), users or UsersDouble(), outcomes)


def end_leases(store):
    """Make every order due."""
    with store.transaction() as tx:
        tx.connection.execute(orders.update().values(due_at=datetime.now(UTC) - timedelta(seconds=1)))
