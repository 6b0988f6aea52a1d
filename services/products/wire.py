"""How products look on the wire: plain data for RPC, messages for gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nameko_mesh.errors import describe
from nameko_mesh.outcome import Outcome
from protos import product_pb2 as pb
from services.money import major_units
from services.products import domain
from services.products.domain import Order, Product, Reservation
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


def order_from_wire(wire: Any) -> Order:
    if not isinstance(wire, dict):
        raise Invalid("orders: expected objects with order_id and items", "orders")
    return domain.new_order(
        wire.get("order_id"), wire.get("items"), wire.get("user_id"), wire.get("exact", False)
    )


def reserved(reservation: Reservation) -> dict[str, Any]:
    """What the order gets. Raises the refusal when it gets nothing."""
    if reservation.refusal is not None:
        raise reservation.refusal
    if reservation.status == domain.RELEASED:
        raise domain.ReservationReleased(f"order {reservation.order_id} has been cancelled")
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


def order_from_message(request: pb.ReserveStockRequest) -> Order:
    items = [{"product_id": item.product_id, "quantity": item.quantity} for item in request.items]
    return domain.new_order(request.order_id, items)


def reservation_message(answer: Mapping[str, Any]) -> pb.ReserveStockResponse:
    items = [pb.ReservedLine(**item) for item in answer["items"]]
    return pb.ReserveStockResponse(order_id=answer["order_id"], items=items, currency=answer["currency"])
