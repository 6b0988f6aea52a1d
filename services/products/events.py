"""What products publishes. Published for ever: see tests/contracts/events."""

from __future__ import annotations

from typing import ClassVar

from mesh.events import Event
from mesh.values import value


@value(kw_only=True)
class ProductCreated(Event):
    TYPE: ClassVar[str] = "product_created"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    name: str
    price_minor: int
    currency: str
    stock: int


@value(kw_only=True)
class ProductUpdated(Event):
    """The name or the price is another one now."""

    TYPE: ClassVar[str] = "product_updated"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    name: str
    price_minor: int
    currency: str


@value(kw_only=True)
class StockChanged(Event):
    """There is more or less on hand than before, for whatever reason."""

    TYPE: ClassVar[str] = "stock_changed"
    AGGREGATE: ClassVar[str] = "product_id"

    product_id: str
    stock: int
