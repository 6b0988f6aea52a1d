"""Doubles of products and users, for placing orders without them.

test_doubles compares the double of products with the real service.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nameko_mesh.outcome import Outcome
from services.orders import saga
from services.orders.tables import orders

BOB = {"id": "U002", "name": "Bob", "email": "bob@example.com", "version": 1}


class ProductsDouble:
    """Products with one stock of everything. With an `error` each call raises it."""

    def __init__(self, stock=100, error=None):
        self.stock = stock
        self.error = error
        self.decisions = {}
        self.requested = []

    def reserve_stocks(self, *, orders):
        self.requested += [order["order_id"] for order in orders]
        if self.error:
            raise self.error
        return [self._decide(order) for order in orders]

    def copy(self):
        """The same products with the same decisions, without an error."""
        copy = ProductsDouble(stock=self.stock)
        copy.decisions = self.decisions
        return copy

    def _decide(self, order):
        if order["order_id"] not in self.decisions:
            self.decisions[order["order_id"]] = (self._decide_new(order), order["items"])
        decision, items = self.decisions[order["order_id"]]
        if items != order["items"]:
            return {"error": {"code": "idempotency-key-reused", "message": "other items", "field": "items"}}
        return decision

    def _decide_new(self, order):
        quantity = sum(item["quantity"] for item in order["items"])
        if quantity > self.stock:
            return {"error": {"code": "out-of-stock", "message": "none left", "field": "quantity"}}
        self.stock -= quantity
        items = [{**item, "name": "Laptop", "unit_price_minor": 500} for item in order["items"]]
        return {"ok": {"order_id": order["order_id"], "items": items, "currency": "USD"}}


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
