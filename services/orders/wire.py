"""Orders as they travel: plain data over RPC, events over AMQP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nameko_mesh.events import Event, timestamp
from services.money import major_units
from services.orders import domain
from services.orders.domain import Customer, Order, Request
from services.orders.events import OrderCancelled, OrderConfirmed, OrderedLine, OrderPlaced, OrderRejected
from services.rules import Invalid, checked_id


def request_from_wire(wire: Any) -> Request:
    """Decode a request to place an order. Raises Invalid."""
    if not isinstance(wire, dict):
        raise Invalid("orders: expected objects with user_id and items", "orders")
    return domain.new_request(wire.get("user_id"), wire.get("items"), wire.get("idempotency_key"))


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
    """Return the time of the newest event."""
    return datetime.fromisoformat(max(event["occurred_at"] for event in events))


def reserved_orders(events: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the orders of `stocks_reserved` events by order id.

    They are not decoded, because nearly all of them are recorded by the time of the event.
    """
    return {order["order_id"]: order for event in events for order in event["data"]["orders"]}


def request_from_reserved(order: Mapping[str, Any]) -> Request:
    return domain.reserved_request(order["order_id"], order["user_id"], order["items"])


def placed_event(request: Request) -> tuple[Event, int]:
    items = [_ordered_line(line) for line in request.lines]
    base = {"order_id": request.order_id, "user_id": request.user_id, "status": domain.PENDING}
    return OrderPlaced(**base, items=items), domain.FIRST_VERSION


def status_event(order: Order) -> tuple[Event, int]:
    """Return the event of the state that the order has just reached."""
    base = {"order_id": order.id, "user_id": order.user_id, "status": order.status}
    if order.status == domain.REJECTED:
        reason = order.reason or {}
        return OrderRejected(**base, reason=reason["code"], message=reason["message"]), order.version
    event_cls: Any = OrderConfirmed if order.status == domain.CONFIRMED else OrderCancelled
    items = [_ordered_line(line) for line in order.lines]
    customer = {"name": order.user_name, "email": order.user_email}
    money = {"total_minor": order.total_minor, "currency": order.currency}
    return event_cls(**base, **customer, items=items, **money), order.version


def _ordered_line(line: domain.Line) -> OrderedLine:
    return {
        "product_id": line.product_id,
        "name": line.name,
        "quantity": line.quantity,
        "unit_price_minor": line.unit_price_minor,
    }


def position_of(order: Order) -> Sequence[str]:
    return [timestamp(order.created_at), order.id]


def position_from_cursor(key: list[str] | None) -> tuple[datetime, str] | None:
    """Decode the (created_at, id) after which a page begins. Raises Invalid."""
    if key is None:
        return None
    try:
        moment = datetime.fromisoformat(key[0])
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC), checked_id(key[1], "order_id")
    except (ValueError, OverflowError, Invalid):
        raise Invalid("cursor: expected the next_cursor of an earlier page", "cursor") from None
