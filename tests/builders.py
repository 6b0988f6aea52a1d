"""Builders: each makes a valid object, and a test names only the fields that matter to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.orders import domain as orders
from services.products import domain as products
from services.products import reservations
from services.users import domain as users

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def a_product(product_id: str = "P001", **fields: Any) -> products.Product:
    defaults = {"name": "Laptop", "price_minor": 120050, "currency": "USD", "stock": 10}
    return products.Product(id=product_id, **{**defaults, **fields})


def by_id(*all_products: products.Product) -> dict[str, products.Product]:
    return {product.id: product for product in all_products}


def stock_request(
    order_id: str = "o-1",
    items: Mapping[str, int] | None = None,
    user_id: str | None = None,
    exact: bool = False,
) -> reservations.ReservationRequest:
    """A request to products to reserve the lines of an order."""
    return reservations.new_request(order_id, lines(items or {"P001": 1}), user_id, exact)


def lines(items: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"product_id": product_id, "quantity": quantity} for product_id, quantity in items.items()]


def a_request(
    user_id: str = "U001", items: Mapping[str, int] | None = None, key: str | None = None
) -> orders.Request:
    """A request to place an order."""
    return orders.new_request(user_id, lines(items or {"P001": 1}), key)


def a_customer(user_id: str = "U001", **fields: Any) -> orders.Customer:
    defaults = {"name": "Alice", "email": "alice@example.com", "version": 1}
    return orders.Customer(id=user_id, **{**defaults, **fields})


def a_pending_order(request: orders.Request | None = None) -> orders.Order:
    customer = a_customer()
    return orders.pending(request or a_request(), customer.name, customer.email, NOON)


def a_reservation(order_id: str = "o-1", quantity: int = 1, unit_price_minor: int = 120050) -> dict[str, Any]:
    """The answer of products to a request that it has reserved."""
    item = {
        "product_id": "P001",
        "name": "Laptop",
        "quantity": quantity,
        "unit_price_minor": unit_price_minor,
    }
    return {"order_id": order_id, "items": [item], "currency": "USD"}


def a_user(user_id: str = "U001", **fields: Any) -> users.User:
    defaults: dict[str, Any] = {"name": "Alice", "email": "alice@example.com", "created_at": NOON}
    return users.User(id=user_id, **{**defaults, **fields})


def an_order_event(kind: str = "order_confirmed", **data: Any) -> dict[str, Any]:
    """An event of orders as it arrives at a handler."""
    defaults = {
        "order_id": "o-1",
        "user_id": "U001",
        "status": kind.removeprefix("order_"),
        "name": "Alice",
        "email": "alice@example.com",
        "items": [{"product_id": "P001", "name": "Laptop", "quantity": 2, "unit_price_minor": 120050}],
        "total_minor": 240100,
        "currency": "USD",
    }
    return {
        "event_id": "6f7f2c1e-0000-4000-8000-000000000001",
        "type": kind,
        "version": 1,
        "occurred_at": "2026-01-02T12:00:00.000000Z",
        "aggregate_id": "o-1",
        "aggregate_version": 2,
        "data": defaults | data,
    }
