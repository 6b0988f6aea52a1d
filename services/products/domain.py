"""The rules of products: what they cost, what is on hand, and who has it reserved.

Nobody changes one of these values; they are not frozen, for that would double the time it takes to make one,
and an order makes half a dozen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.rules import (
    MAX_QUANTITY,
    Invalid,
    Refusal,
    checked_id,
    checked_int,
    checked_lines,
    checked_name,
)

MAX_PRICE_MINOR = 1_000_000_000_000
MAX_TOTAL_MINOR = 2**53 - 1  # what every reader of JSON takes for the same number (RFC 8259, section 6)
MAX_QUERY_LENGTH = 100

_QUERY = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{0,{MAX_QUERY_LENGTH}}}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class UnknownProduct(Refusal):
    slug = "not-found"


class ProductExists(Refusal):
    slug = "already-exists"


class OutOfStock(Refusal):
    """There is less on hand than the order asks for."""

    slug = "out-of-stock"


class ReservationReleased(Refusal):
    """The order was cancelled before its reservation arrived."""


class OrderIdReused(Refusal):
    """Something else has been asked for under the id of this order."""

    slug = "idempotency-key-reused"


@dataclass(kw_only=True)
class Product:
    id: str
    name: str
    price_minor: int
    currency: str
    stock: int
    version: int = 1


@dataclass
class Line:
    product_id: str
    quantity: int


@dataclass
class Order:
    """What somebody wants to have reserved: each product once, in id order."""

    order_id: str
    lines: tuple[Line, ...]
    user_id: str | None = None
    """Whose order it is, when the reservation is to be told to the world."""
    exact: bool = False
    """Whether the decision about other lines under the same id is no answer to this one."""

    @property
    def product_ids(self) -> list[str]:
        return [line.product_id for line in self.lines]


@dataclass(kw_only=True)
class ReservedLine:
    """Of what was refused there is neither a name nor a price."""

    product_id: str
    name: str = ""
    quantity: int
    unit_price_minor: int = 0


RESERVED, REFUSED, RELEASED = "reserved", "refused", "released"


@dataclass(kw_only=True)
class Reservation:
    """The decision about one order. It is made once; asking again gives the same answer.

    An order that was cancelled before its reservation arrived has no lines.
    """

    order_id: str
    status: str
    lines: tuple[ReservedLine, ...] = ()
    currency: str | None = None
    refusal: Refusal | None = None


def existing(products: Mapping[str, Product], product_id: str) -> Product:
    """Raises UnknownProduct."""
    if product_id not in products:
        raise UnknownProduct(f"there is no product {product_id}", "product_id")
    return products[product_id]


def new_product(*, product_id: Any, name: Any, price_minor: Any, currency: Any, stock: Any) -> Product:
    """A product from outside. Raises Invalid naming the first field that is wrong."""
    return Product(
        id=checked_id(product_id, "id"),
        name=checked_name(name),
        price_minor=checked_price(price_minor),
        currency=_checked_currency(currency),
        stock=checked_int(stock, "stock", 0, MAX_QUANTITY),
    )


def changed(product: Product, *, name: Any = None, price_minor: Any = None) -> Product:
    """The product with another name or price."""
    if name is None and price_minor is None:
        raise Invalid("nothing to change: expected name or price_minor", "name")
    return replace(
        product,
        name=product.name if name is None else checked_name(name),
        price_minor=product.price_minor if price_minor is None else checked_price(price_minor),
        version=product.version + 1,
    )


def restocked(product: Product, quantity: Any) -> Product:
    more = checked_int(quantity, "quantity", 1, MAX_QUANTITY)
    if product.stock + more > MAX_QUANTITY:
        raise Invalid(f"quantity: it would make the stock larger than {MAX_QUANTITY}", "quantity")
    return replace(product, stock=product.stock + more, version=product.version + 1)


def new_order(order_id: Any, items: Any, user_id: Any = None, exact: Any = False) -> Order:
    """An order from outside: the same product twice becomes one line. Raises Invalid."""
    lines = [Line(product_id, quantity) for product_id, quantity in checked_lines(items)]
    user = None if user_id is None else checked_id(user_id, "user_id")
    if not isinstance(exact, bool):
        raise Invalid("exact: expected true or false", "exact")
    return Order(checked_id(order_id, "order_id"), tuple(lines), user, exact)


def reserve(products: Mapping[str, Product], order: Order) -> Reservation:
    """Take every line of the order or none, at today's prices.

    Raises UnknownProduct, OutOfStock or Invalid (two currencies, too dear), naming the product.
    """
    for line in order.lines:
        product = existing(products, line.product_id)
        if line.quantity > product.stock:
            raise OutOfStock(
                f"{line.product_id} has {product.stock} in stock, the order asks for {line.quantity}",
                "quantity",
            )
    chosen = [(products[line.product_id], line.quantity) for line in order.lines]
    if sum([product.price_minor * quantity for product, quantity in chosen]) > MAX_TOTAL_MINOR:
        raise Invalid(f"items: together they may cost {MAX_TOTAL_MINOR} minor units at most", "items")
    currencies = sorted({product.currency for product, _ in chosen})
    if len(currencies) > 1:
        raise Invalid(f"the products are priced in {', '.join(currencies)}: expected one currency", "items")
    lines = [
        ReservedLine(
            product_id=product.id, name=product.name, quantity=n, unit_price_minor=product.price_minor
        )
        for product, n in chosen
    ]
    return Reservation(order_id=order.order_id, status=RESERVED, lines=tuple(lines), currency=currencies[0])


def _refused(order: Order, refusal: Refusal) -> Reservation:
    lines = [ReservedLine(product_id=line.product_id, quantity=line.quantity) for line in order.lines]
    return Reservation(order_id=order.order_id, status=REFUSED, lines=tuple(lines), refusal=refusal)


def repeated(order: Order, before: Reservation) -> Reservation:
    """The decision that was made before, for whoever asks again."""
    if not order.exact:
        return before
    wanted = [(line.product_id, line.quantity) for line in order.lines]
    decided = [(line.product_id, line.quantity) for line in before.lines]
    if decided and decided != wanted:
        return _refused(
            order, OrderIdReused(f"other items were asked for as order {order.order_id}", "items")
        )
    return before


def reserve_all(
    products: Mapping[str, Product], orders: Sequence[Order]
) -> tuple[list[Reservation], dict[str, Product]]:
    """Decide order by order; one that is refused leaves the stock to the others.

    Returns a decision for each order, and the products whose stock has changed.
    """
    now = dict(products)
    touched: dict[str, Product] = {}
    decisions = []
    for order in orders:
        try:
            reservation = reserve(now, order)
        except Refusal as refusal:
            decisions.append(_refused(order, refusal))
            continue
        decisions.append(reservation)
        for line in reservation.lines:
            now[line.product_id] = touched[line.product_id] = _moved(now[line.product_id], -line.quantity)
    return decisions, touched


def release_all(products: Mapping[str, Product], reservations: Sequence[Reservation]) -> dict[str, Product]:
    """The products that get stock back. What is not reserved (any more) gives nothing back."""
    touched: dict[str, Product] = {}
    for reservation in reservations:
        if reservation.status == RESERVED:
            for line in reservation.lines:
                product = touched.get(line.product_id, products[line.product_id])
                touched[line.product_id] = _moved(product, line.quantity)
    return touched


def _moved(product: Product, quantity: int) -> Product:
    """In full, for every order gets here: `replace` takes twice as long."""
    return Product(
        id=product.id,
        name=product.name,
        price_minor=product.price_minor,
        currency=product.currency,
        stock=product.stock + quantity,
        version=product.version + 1,
    )


def checked_text(value: Any) -> None:
    if value is not None and not (isinstance(value, str) and _QUERY.fullmatch(value)):
        message = f"query: expected at most {MAX_QUERY_LENGTH} characters without control characters"
        raise Invalid(message, "query")


def checked_price(value: Any) -> int:
    return checked_int(value, "price_minor", 0, MAX_PRICE_MINOR)


def _checked_currency(value: Any) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Invalid("currency: expected three capital letters (ISO 4217)", "currency")
    return value
