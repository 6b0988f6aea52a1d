"""The events of products. A published schema never changes: see tests/contracts/events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypedDict

from nameko_mesh.events import Event


@dataclass(frozen=True, kw_only=True)
class ProductCreated(Event):
    """A product can be ordered from now on."""

    TYPE: ClassVar[str] = "product_created"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    name: str
    price_minor: int
    currency: str
    stock: int


@dataclass(frozen=True, kw_only=True)
class ProductUpdated(Event):
    """The name or the price has changed."""

    TYPE: ClassVar[str] = "product_updated"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    name: str
    price_minor: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class StockChanged(Event):
    """The stock has changed, for any reason."""

    TYPE: ClassVar[str] = "stock_changed"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    stock: int


class ReservedItem(TypedDict):
    product_id: str
    quantity: int


class ReservedOrder(TypedDict):
    order_id: str
    user_id: str
    items: list[ReservedItem]


@dataclass(frozen=True, kw_only=True)
class StocksReserved(Event):
    """The stock of these orders is reserved.

    Published in the transaction of the reservations, for the orders whose requests name a customer. Awaited:
    if the caller of products has died since, `orders` records the orders from this event.
    """

    TYPE: ClassVar[str] = "stocks_reserved"
    AGGREGATE: ClassVar[str] = "batch_id"
    AWAITED: ClassVar[bool] = True

    batch_id: str
    orders: list[ReservedOrder]
