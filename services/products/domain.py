"""The rules of the catalogue: what a product is, and how its price and stock may change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.rules import MAX_QUANTITY, Invalid, Refusal, checked_id, checked_int, checked_name

MAX_PRICE_MINOR = 1_000_000_000_000
MAX_QUERY_LENGTH = 100

_QUERY = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{0,{MAX_QUERY_LENGTH}}}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class UnknownProduct(Refusal):
    slug = "not-found"


class ProductExists(Refusal):
    slug = "already-exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`version` grows by one with each change of the name, the price or the stock."""

    id: str
    name: str
    price_minor: int
    currency: str
    stock: int
    version: int = 1


def existing(products: Mapping[str, Product], product_id: str) -> Product:
    """Return the product. Raises UnknownProduct."""
    if product_id not in products:
        raise UnknownProduct(f"there is no product {product_id}", "product_id")
    return products[product_id]


def new_product(*, product_id: Any, name: Any, price_minor: Any, currency: Any, stock: Any) -> Product:
    """Make a product of unchecked input. Raises Invalid naming the first field that is wrong."""
    return Product(
        id=checked_id(product_id, "id"),
        name=checked_name(name),
        price_minor=_checked_price(price_minor),
        currency=_checked_currency(currency),
        stock=checked_int(stock, "stock", 0, MAX_QUANTITY),
    )


def changed(product: Product, *, name: Any = None, price_minor: Any = None) -> Product:
    """Return the product with another name or price. Raises Invalid."""
    if name is None and price_minor is None:
        raise Invalid("nothing to change: expected name or price_minor", "name")
    return replace(
        product,
        name=product.name if name is None else checked_name(name),
        price_minor=product.price_minor if price_minor is None else _checked_price(price_minor),
        version=product.version + 1,
    )


def restocked(product: Product, quantity: Any) -> Product:
    """Return the product with more stock. Raises Invalid."""
    more = checked_int(quantity, "quantity", 1, MAX_QUANTITY)
    if product.stock + more > MAX_QUANTITY:
        message = f"quantity: the stock is {product.stock}, and may become at most {MAX_QUANTITY}"
        raise Invalid(message, "quantity")
    return with_stock(product, product.stock + more)


def with_stock(product: Product, stock: int) -> Product:
    """Return the next version of the product, with this stock.

    It names every field because each reservation comes here: `replace` takes twice as long.
    """
    return Product(
        id=product.id,
        name=product.name,
        price_minor=product.price_minor,
        currency=product.currency,
        stock=stock,
        version=product.version + 1,
    )


def checked_query(value: Any) -> None:
    """Check the text of a search. Raises Invalid."""
    if value is not None and not (isinstance(value, str) and _QUERY.fullmatch(value)):
        message = f"query: expected at most {MAX_QUERY_LENGTH} characters without control characters"
        raise Invalid(message, "query")


def _checked_price(value: Any) -> int:
    return checked_int(value, "price_minor", 0, MAX_PRICE_MINOR)


def _checked_currency(value: Any) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Invalid("currency: expected three capital letters (ISO 4217)", "currency")
    return value
