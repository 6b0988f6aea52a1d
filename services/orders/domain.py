"""The rules of orders: what an order is, and the states it goes through.

pending ──> confirmed ──> cancelled
   ├──────> rejected
   └──────> cancelled

Nobody changes one of these values; they are not frozen, for that would double the time it takes to make one,
and an order makes a dozen.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.rules import Invalid, Refusal, checked_id, checked_lines

PENDING, CONFIRMED, REJECTED, CANCELLED = "pending", "confirmed", "rejected", "cancelled"

FIRST_VERSION = 1

MAX_KEY_LENGTH = 255

_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}")
_ORDER_IDS = uuid.UUID("5a0f3c1e-6f0b-4f64-9d53-0a5ad1f6a0c7")


class UnknownOrder(Refusal):
    slug = "not-found"


class UnknownCustomer(Refusal):
    slug = "not-found"


class KeyReused(Refusal):
    """The idempotency key belongs to another request of this user."""

    slug = "idempotency-key-reused"


class InProgress(Refusal):
    """The first request with this idempotency key is still being worked on."""

    slug = "request-in-progress"


class Rejected(Refusal):
    """The order was rejected, for the reason that products gave: that is the slug."""

    def __init__(self, reason: Mapping[str, Any]) -> None:
        super().__init__(reason["message"], reason.get("field"))
        self.slug = reason["code"]


@dataclass
class Line:
    product_id: str
    quantity: int
    name: str | None = None
    unit_price_minor: int | None = None

    @property
    def total_minor(self) -> int | None:
        return None if self.unit_price_minor is None else self.quantity * self.unit_price_minor


@dataclass(kw_only=True)
class Customer:
    """What orders knows of a user: a copy, as new as the last event or answer of users."""

    id: str
    name: str
    email: str
    version: int


@dataclass(kw_only=True)
class Request:
    """A wish to place an order. The same user and key are the same order, however often asked."""

    order_id: str
    user_id: str
    lines: tuple[Line, ...]
    fingerprint: str
    """Tells this request from another one under the same key."""


Reserved = tuple[Request, Mapping[str, Any]]
"""A request, and what products has reserved for it."""


@dataclass(kw_only=True)
class Order:
    """`version` grows with each change of state; `confirmed_at` stays when the order is cancelled."""

    id: str
    user_id: str
    user_name: str
    user_email: str
    fingerprint: str
    status: str
    lines: tuple[Line, ...]
    currency: str | None = None
    reason: Mapping[str, Any] | None = None
    version: int
    created_at: datetime
    confirmed_at: datetime | None = None

    @property
    def total_minor(self) -> int | None:
        if self.currency is None:
            return None
        return sum([line.total_minor or 0 for line in self.lines])


def new_request(user_id: Any, items: Any, idempotency_key: Any) -> Request:
    """A request from outside: the same product twice becomes one line. Raises Invalid."""
    user = checked_id(user_id, "user_id")
    if idempotency_key is None:
        order_id = str(uuid.uuid4())
    elif isinstance(idempotency_key, str) and _KEY.fullmatch(idempotency_key):
        order_id = _order_id(user, idempotency_key)
    else:
        field = "idempotency_key"
        raise Invalid(f"{field}: expected 1 to {MAX_KEY_LENGTH} visible ASCII characters", field)
    lines = tuple([Line(product_id, quantity) for product_id, quantity in checked_lines(items)])
    return Request(order_id=order_id, user_id=user, lines=lines, fingerprint=_fingerprint(user, lines))


def told_request(order_id: str, user_id: str, items: Sequence[Mapping[str, Any]]) -> Request:
    """The request for an order, by what others tell of it."""
    lines = tuple([Line(item["product_id"], item["quantity"]) for item in items])
    return Request(order_id=order_id, user_id=user_id, lines=lines, fingerprint=_fingerprint(user_id, lines))


def _order_id(user_id: str, key: str) -> str:
    """The UUID of that name (RFC 9562, version 5), as `uuid.uuid5` has it: that makes an object of it first,
    in three times the time."""
    digits = hashlib.sha1(_ORDER_IDS.bytes + f"{user_id}\n{key}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _fingerprint(user_id: str, lines: Sequence[Line]) -> str:
    """Of the JSON of what was asked for; no id has a character that JSON would write in another way."""
    wanted = ", ".join([f'["{line.product_id}", {line.quantity}]' for line in lines])
    return hashlib.sha256(f'["{user_id}", [{wanted}]]'.encode()).hexdigest()


def pending(request: Request, name: str, email: str, now: datetime) -> Order:
    """The order that somebody of that name and address has asked for."""
    return Order(
        id=request.order_id,
        user_id=request.user_id,
        user_name=name,
        user_email=email,
        fingerprint=request.fingerprint,
        status=PENDING,
        lines=request.lines,
        version=FIRST_VERSION,
        created_at=now,
    )


def key_reused() -> KeyReused:
    return KeyReused("Idempotency-Key: it was used for another order", "Idempotency-Key")


def in_progress() -> InProgress:
    return InProgress("Idempotency-Key: the first request with it is still running", "Idempotency-Key")


def replayed(order: Order, request: Request) -> Order:
    """The first answer to a request that came before. Raises KeyReused, or Rejected as the first time.

    An order that was cancelled later was confirmed when it was answered, and that answer is repeated.
    """
    if order.fingerprint != request.fingerprint:
        raise key_reused()
    if order.status == REJECTED and order.reason is not None:
        raise Rejected(order.reason)
    if order.status == CANCELLED and order.confirmed_at is None:
        raise Refusal("the order was cancelled before it was confirmed", "order_id")
    return replace(order, status=CONFIRMED) if order.status == CANCELLED else order


def confirmed(order: Order, reserved: Mapping[str, Any], now: datetime) -> Order:
    """The order with names and prices as products answered them; unchanged when it was settled before."""
    if order.status != PENDING:
        return order
    lines = [
        Line(item["product_id"], item["quantity"], item["name"], item["unit_price_minor"])
        for item in reserved["items"]
    ]
    return Order(  # in full, for every order gets here: `replace` takes twice as long
        id=order.id,
        user_id=order.user_id,
        user_name=order.user_name,
        user_email=order.user_email,
        fingerprint=order.fingerprint,
        status=CONFIRMED,
        lines=tuple(lines),
        currency=reserved["currency"],
        version=order.version + 1,
        created_at=order.created_at,
        confirmed_at=now,
    )


def rejected(order: Order, reason: Mapping[str, Any]) -> Order:
    if order.status != PENDING:
        return order
    return replace(order, status=REJECTED, reason=reason, version=order.version + 1)


def cancelled(order: Order) -> Order:
    """Raises Refusal for an order that was rejected; a cancelled one stays as it is."""
    if order.status == CANCELLED:
        return order
    if order.status == REJECTED:
        raise Refusal("the order was rejected: there is nothing to cancel", "order_id")
    return replace(order, status=CANCELLED, version=order.version + 1)
