"""Products and reservations as they travel: plain data over RPC, messages over gRPC, events over AMQP."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nameko_mesh.errors import describe
from nameko_mesh.outcome import Outcome
from protos import product_pb2 as pb
from services.money import major_units
from services.products import reservations
from services.products.domain import Product
from services.products.events import (
    ProductCreated,
    ProductUpdated,
    ReservedItem,
    ReservedOrder,
    StockChanged,
    StocksReserved,
)
from services.products.reservations import Reservation, ReservationReleased, ReservationRequest
from services.rules import Invalid


def product_to_wire(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "name": product.name,
        "price": major_units(product.price_minor, product.currency),
        "price_minor": product.price_minor,
        "currency": product.currency,
        "stock": product.stock,
        "version": product.version,
    }


def request_from_wire(wire: Any) -> ReservationRequest:
    """Decode a reservation request. Raises Invalid."""
    if not isinstance(wire, dict):
        raise Invalid("orders: expected objects with order_id and items", "orders")
    return reservations.new_request(
        wire.get("order_id"), wire.get("items"), wire.get("user_id"), wire.get("exact", False)
    )


def reservation_to_wire(reservation: Reservation) -> dict[str, Any]:
    """Encode what the order gets. Raises the refusal of an order that gets nothing."""
    if reservation.refusal is not None:
        raise reservation.refusal
    if reservation.status == reservations.RELEASED:
        raise ReservationReleased(f"order {reservation.order_id} has been cancelled")
    items = [
        {
            "product_id": line.product_id,
            "name": line.name,
            "quantity": line.quantity,
            "unit_price_minor": line.unit_price_minor,
        }
        for line in reservation.lines
    ]
    return {"order_id": reservation.order_id, "items": items, "currency": reservation.currency}


def released(order_id: str) -> dict[str, Any]:
    return {"order_id": order_id, "released": True}


def product_message(product: Product) -> pb.ProductResponse:
    return pb.ProductResponse(
        id=product.id,
        name=product.name,
        price=major_units(product.price_minor, product.currency) or 0.0,
        stock=product.stock,
        price_minor=product.price_minor,
        currency=product.currency,
        version=product.version,
    )


def product_result(outcome: Outcome[Product]) -> pb.ProductResult:
    if outcome.error is not None:
        problem = describe(outcome.error) or {}
        return pb.ProductResult(problem=pb.Problem(**problem))
    return pb.ProductResult(product=product_message(outcome.unwrap()))


def request_from_message(message: pb.ReserveStockRequest) -> ReservationRequest:
    """Decode a reservation request of gRPC. Raises Invalid."""
    items = [{"product_id": item.product_id, "quantity": item.quantity} for item in message.items]
    return reservations.new_request(message.order_id, items)


def reservation_message(reservation: Mapping[str, Any]) -> pb.ReserveStockResponse:
    items = [pb.ReservedLine(**item) for item in reservation["items"]]
    return pb.ReserveStockResponse(
        order_id=reservation["order_id"], items=items, currency=reservation["currency"]
    )


def product_created(product: Product) -> tuple[ProductCreated, int]:
    event = ProductCreated(
        product_id=product.id,
        name=product.name,
        price_minor=product.price_minor,
        currency=product.currency,
        stock=product.stock,
    )
    return event, product.version


def product_updated(product: Product) -> tuple[ProductUpdated, int]:
    event = ProductUpdated(
        product_id=product.id,
        name=product.name,
        price_minor=product.price_minor,
        currency=product.currency,
    )
    return event, product.version


def stock_changes(changed: Iterable[Product]) -> list[tuple[StockChanged, int]]:
    return [
        (StockChanged(product_id=product.id, stock=product.stock), product.version) for product in changed
    ]


def stocks_reserved(
    requests: Mapping[str, ReservationRequest], decisions: Sequence[Reservation]
) -> list[tuple[StocksReserved, int]]:
    """Return an event of the new reservations whose requests name a customer. Return none without any."""
    orders: list[ReservedOrder] = []
    for decision in decisions:
        user_id = requests[decision.order_id].user_id
        if user_id is not None and decision.status == reservations.RESERVED:
            items: list[ReservedItem] = [
                {"product_id": line.product_id, "quantity": line.quantity} for line in decision.lines
            ]
            orders.append({"order_id": decision.order_id, "user_id": user_id, "items": items})
    return [(StocksReserved(batch_id=uuid.uuid4().hex, orders=orders), 1)] if orders else []
