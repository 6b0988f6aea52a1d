"""What orders publishes. Published for ever: see tests/contracts/events."""

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
    """The order is recorded; what has become of it is told by the next event."""

    TYPE: ClassVar[str] = "order_placed"
    AGGREGATE: ClassVar[str] = "order_id"

    order_id: str
    user_id: str
    status: str
    items: list[OrderedLine]


@dataclass(frozen=True, kw_only=True)
class OrderConfirmed(Event):
    """Published once for an order, in the transaction that confirmed it. Awaited: it mails the customer."""

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
    """The order can't be had; `reason` is the public code."""

    TYPE: ClassVar[str] = "order_rejected"
    AGGREGATE: ClassVar[str] = "order_id"

    order_id: str
    user_id: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class OrderCancelled(Event):
    """Awaited: products gives the stock back on it, and the customer gets a mail."""

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
