"""The calls that orders makes to products and users, and their answers as outcomes.

A call that fails is logged here and becomes a missing or failed outcome: no function raises a MeshError.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from nameko_mesh.errors import DeadlineExceeded, MeshError, Refused, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import domain
from services.orders.domain import Customer, Line, Order, Request

log = logging.getLogger(__name__)

Decisions = Mapping[str, Outcome[Mapping[str, Any]]]
"""The decisions of products, by order id: a reservation or the reason why there is none."""

# Errors without a decision: products, or the connection to it, has failed.
_UNDECIDED = frozenset({"unavailable", "deadline-exceeded", "internal"})


class Products(Protocol):
    def reserve_stocks(self, *, orders: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


class Users(Protocol):
    def get_users(self, *, user_ids: list[str]) -> list[dict[str, Any]]: ...


def new_reservation(request: Request) -> dict[str, Any]:
    """Encode a request whose order is not recorded: products publishes the reservation for this user."""
    return recorded_reservation(request.order_id, request.lines) | {"user_id": request.user_id}


def recorded_reservation(order_id: str, lines: Iterable[Line]) -> dict[str, Any]:
    """Encode a request whose order is recorded, so that products has nothing to publish."""
    items = [{"product_id": line.product_id, "quantity": line.quantity} for line in lines]
    return {"order_id": order_id, "items": items, "exact": True}


def reserve(products: Products, reservations: list[dict[str, Any]]) -> Decisions:
    """Ask products for reservations. An order on which products did not decide is missing in the result."""
    if not reservations:
        return {}
    try:
        results = products.reserve_stocks(orders=reservations)
    except MeshError as error:
        log.warning("products did not answer about %d orders: %s", len(reservations), error)
        return {}
    outcomes = {
        reservation["order_id"]: Outcome.from_wire(result)
        for reservation, result in zip(reservations, results, strict=True)
    }
    return {
        order_id: outcome
        for order_id, outcome in outcomes.items()
        if getattr(outcome.error, "slug", None) not in _UNDECIDED
    }


def fetch_customers(
    users: Users, requests: Mapping[int, Request]
) -> tuple[list[Customer], dict[int, Outcome[Order]]]:
    """Ask users for the customers of requests. Returns the customers, and the outcomes of failed requests."""
    user_ids = sorted({request.user_id for request in requests.values()})
    try:
        outcomes = [Outcome.from_wire(result) for result in users.get_users(user_ids=user_ids)]
    except (Unavailable, DeadlineExceeded) as error:
        outcomes = [Outcome(error=error)] * len(user_ids)
    except MeshError as error:
        log.error("users could not answer: %s", error)
        outcomes = [Outcome(error=Unavailable("users could not answer"))] * len(user_ids)
    by_user = dict(zip(user_ids, outcomes, strict=True))
    failed: dict[int, Outcome[Order]] = {
        index: Outcome(error=_reason(request.user_id, by_user[request.user_id].error))
        for index, request in requests.items()
        if by_user[request.user_id].error
    }
    return [_customer(outcome.unwrap()) for outcome in outcomes if outcome.error is None], failed


def _reason(user_id: str, error: Exception | None) -> Exception | None:
    """Return UnknownCustomer for a user who does not exist, or else the error as it is."""
    if isinstance(error, Refused) and error.slug == "not-found":
        return domain.UnknownCustomer(f"there is no user {user_id}", "user_id")
    return error


def _customer(user: Mapping[str, Any]) -> Customer:
    return Customer(id=user["id"], name=user["name"], email=user["email"], version=user["version"])
