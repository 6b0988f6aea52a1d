"""How orders look on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nameko_mesh.events import timestamp
from services.money import major_units
from services.orders import domain
from services.orders.domain import Customer, Order, Request
from services.rules import Invalid, checked_id


def request_from_wire(wish: Any) -> Request:
    if not isinstance(wish, dict):
        raise Invalid("orders: expected objects with user_id and items", "orders")
    return domain.new_request(wish.get("user_id"), wish.get("items"), wish.get("idempotency_key"))


def order_to_wire(order: Order) -> dict[str, Any]:
    total = order.total_minor
    wire = {
        "order_id": order.id,
        "status": order.status,
        "user": {"id": order.user_id, "name": order.user_name, "email": order.user_email},
        "items": [
            {
                "product": {"id": line.product_id, "name": line.name},
                "quantity": line.quantity,
                "unit_price_minor": line.unit_price_minor,
                "line_total_minor": line.total_minor,
            }
            for line in order.lines
        ],
        "total_price": major_units(total, order.currency),
        "total_minor": total,
        "currency": order.currency,
        "created_at": timestamp(order.created_at),
    }
    return wire | ({"reason": dict(order.reason)} if order.reason else {})


def customer_from_event(event: Mapping[str, Any]) -> Customer:
    data = event["data"]
    return Customer(
        id=data["user_id"], name=data["name"], email=data["email"], version=event["aggregate_version"]
    )


def latest(events: Sequence[Mapping[str, Any]]) -> datetime:
    """When the last of them happened."""
    return datetime.fromisoformat(max(event["occurred_at"] for event in events))


def request_from_told(told: Mapping[str, Any]) -> Request:
    return domain.told_request(told["order_id"], told["user_id"], told["items"])


def position_of(order: Order) -> Sequence[str]:
    return [timestamp(order.created_at), order.id]


def position_from_cursor(key: list[str] | None) -> tuple[datetime, str] | None:
    if key is None:
        return None
    try:
        moment = datetime.fromisoformat(key[0])
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC), checked_id(key[1], "order_id")
    except (ValueError, OverflowError, Invalid):
        raise Invalid("cursor: expected the next_cursor of an earlier page", "cursor") from None
