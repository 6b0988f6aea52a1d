"""The rules of reservations: an order gets all of its lines or none, and the decision never changes.

          reserve_all                   release_all
request ────────────> reserved ─────────────────────> released
       └────────────> refused
a cancel that overtakes its request ────────────────> released, without lines
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.products.domain import Product, existing, with_stock
from services.rules import Invalid, Refusal, checked_id, checked_lines

MAX_TOTAL_MINOR = 2**53 - 1  # the largest integer that every JSON reader keeps (RFC 8259, section 6)

RESERVED, REFUSED, RELEASED = "reserved", "refused", "released"


class OutOfStock(Refusal):
    """The stock is smaller than the quantity that the order asks for."""

    slug = "out-of-stock"


class ReservationReleased(Refusal):
    """The order was cancelled before its reservation arrived."""


class OrderIdReused(Refusal):
    """The id of this order has been used for other lines."""

    slug = "idempotency-key-reused"


@dataclass(frozen=True, slots=True)
class Line:
    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """The lines that an order wants to have reserved: each product once, in id order."""

    order_id: str
    lines: tuple[Line, ...]
    user_id: str | None = None
    """The customer. With it the reservation is published in a `stocks_reserved` event."""
    exact: bool = False
    """Refuse the request if the earlier decision under its id was made for other lines."""

    @property
    def product_ids(self) -> list[str]:
        return [line.product_id for line in self.lines]


@dataclass(frozen=True, kw_only=True)
class ReservedLine:
    """A line of a reservation. A refused line has neither a name nor a price.

    It has no slots because orjson writes a dataclass with slots at a fifth of the speed.
    """

    product_id: str
    name: str = ""
    quantity: int
    unit_price_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The decision about one order. It is made once: a repeated request gets the same answer.

    An order that was cancelled before its request arrived has no lines.
    """

    order_id: str
    status: str
    lines: tuple[ReservedLine, ...] = ()
    currency: str | None = None
    refusal: Refusal | None = None


def new_request(order_id: Any, items: Any, user_id: Any = None, exact: Any = False) -> ReservationRequest:
    """Make a request of unchecked input: two lines of the same product become one. Raises Invalid."""
    lines = tuple([Line(product_id, quantity) for product_id, quantity in checked_lines(items)])
    user = None if user_id is None else checked_id(user_id, "user_id")
    if not isinstance(exact, bool):
        raise Invalid("exact: expected true or false", "exact")
    return ReservationRequest(checked_id(order_id, "order_id"), lines, user, exact)


def reserve(products: Mapping[str, Product], request: ReservationRequest) -> Reservation:
    """Reserve every line of the request or none, at today's prices.

    Raises UnknownProduct, OutOfStock or Invalid (several currencies, too high a total).
    """
    for line in request.lines:
        product = existing(products, line.product_id)
        if line.quantity > product.stock:
            have = f"{line.product_id} has {product.stock} in stock"
            raise OutOfStock(f"{have}, the order asks for {line.quantity}", "quantity")
    chosen = [(products[line.product_id], line.quantity) for line in request.lines]
    if sum([product.price_minor * quantity for product, quantity in chosen]) > MAX_TOTAL_MINOR:
        raise Invalid(f"items: expected a total of at most {MAX_TOTAL_MINOR} minor units", "items")
    currencies = sorted({product.currency for product, _ in chosen})
    if len(currencies) > 1:
        raise Invalid(f"the products are priced in {', '.join(currencies)}: expected one currency", "items")
    lines = tuple([_reserved_line(product, quantity) for product, quantity in chosen])
    return Reservation(order_id=request.order_id, status=RESERVED, lines=lines, currency=currencies[0])


def _reserved_line(product: Product, quantity: int) -> ReservedLine:
    return ReservedLine(
        product_id=product.id, name=product.name, quantity=quantity, unit_price_minor=product.price_minor
    )


def _refused(request: ReservationRequest, refusal: Refusal) -> Reservation:
    lines = [ReservedLine(product_id=line.product_id, quantity=line.quantity) for line in request.lines]
    return Reservation(order_id=request.order_id, status=REFUSED, lines=tuple(lines), refusal=refusal)


def repeated(request: ReservationRequest, decision: Reservation) -> Reservation:
    """Return the decision for a repeated request, or a refusal when an exact request differs from it."""
    if not request.exact or not decision.lines:
        return decision
    wanted = [(line.product_id, line.quantity) for line in request.lines]
    if wanted == [(line.product_id, line.quantity) for line in decision.lines]:
        return decision
    message = f"other items were asked for as order {request.order_id}"
    return _refused(request, OrderIdReused(message, "items"))


def reserve_all(
    products: Mapping[str, Product], requests: Sequence[ReservationRequest]
) -> tuple[list[Reservation], dict[str, Product]]:
    """Decide the requests in sequence. A refused request leaves the stock to the later requests.

    Returns a decision for each request, and the products whose stock has changed, by id.
    """
    current = dict(products)
    changed: dict[str, Product] = {}
    decisions = []
    for request in requests:
        try:
            reservation = reserve(current, request)
        except Refusal as refusal:
            decisions.append(_refused(request, refusal))
            continue
        decisions.append(reservation)
        for line in reservation.lines:
            product = current[line.product_id]
            current[product.id] = changed[product.id] = _taken(product, line.quantity)
    return decisions, changed


def _taken(product: Product, quantity: int) -> Product:
    return with_stock(product, product.stock - quantity)


def release_all(products: Mapping[str, Product], reservations: Sequence[Reservation]) -> dict[str, Product]:
    """Return the products that get stock back. Only reservations with the status RESERVED give stock back."""
    changed: dict[str, Product] = {}
    for reservation in reservations:
        if reservation.status == RESERVED:
            for line in reservation.lines:
                product = changed.get(line.product_id, products[line.product_id])
                changed[product.id] = with_stock(product, product.stock + line.quantity)
    return changed
