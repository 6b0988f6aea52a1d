"""The events of orders. A published schema never changes: see tests/contracts/events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypedDict

from nameko_mesh.events import Event


class OrderedLine(TypedDict):
    product_id: str
    name: str | None
    quantity: int
    unit_price_minor: int | None


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    """The order is recorded. Its next event says whether it is confirmed, rejected or cancelled."""

    TYPE: ClassVar[str] = "order_placed"
    AGGREGATE: ClassVar[str] = "order_id"

    order_id: str
    user_id: str
    status: str
    items: list[OrderedLine]


@dataclass(frozen=True, kw_only=True)
class OrderConfirmed(Event):
    """Published once for an order, in the transaction that confirms it. Awaited: the customer gets a mail."""

    TYPE: ClassVar[str] = "order_confirmed"
    AGGREGATE: ClassVar[str] = "order_id"
    AWAITED: ClassVar[bool] = True

    order_id: str
    user_id: str
    status: str
    name: str
    email: str
    items: list[OrderedLine]
    total_minor: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class OrderRejected(Event):
    """The order was rejected. `reason` is the public error code."""

    TYPE: ClassVar[str] = "order_rejected"
    AGGREGATE: ClassVar[str] = "order_id"

    order_id: str
    user_id: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class OrderCancelled(Event):
    """The order was cancelled. Awaited: products gives the stock back, and the customer gets a mail."""

    TYPE: ClassVar[str] = "order_cancelled"
    AGGREGATE: ClassVar[str] = "order_id"
    AWAITED: ClassVar[bool] = True

    order_id: str
    user_id: str
    status: str
    name: str
    email: str
    items: list[OrderedLine]
    total_minor: int | None
    currency: str | None
