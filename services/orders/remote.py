"""What orders asks of products and users. An answer is an outcome for each order or request, and what went
wrong on the way there is one, too."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from nameko_mesh.errors import DeadlineExceeded, MeshError, Refused, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import domain
from services.orders.domain import Customer, Line, Order, Request

log = logging.getLogger(__name__)

# Answers that settle nothing: products, or the way to it, was not able to decide.
_UNDECIDED = frozenset({"unavailable", "deadline-exceeded", "internal"})


class Products(Protocol):
    def reserve_stocks(self, *, orders: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


class Users(Protocol):
    def get_users(self, *, user_ids: list[str]) -> list[dict[str, Any]]: ...


def wanted_for(order_id: str, lines: Iterable[Line]) -> dict[str, Any]:
    items = [{"product_id": line.product_id, "quantity": line.quantity} for line in lines]
    return {"order_id": order_id, "items": items, "exact": True}


def reserve(products: Products, wanted: list[dict[str, Any]]) -> dict[str, Outcome[Mapping[str, Any]]]:
    """What products has decided, by order."""
    try:
        answers = products.reserve_stocks(orders=wanted)
    except MeshError as error:
        log.warning("%d orders have no answer of products: %s", len(wanted), error)
        return {}
    outcomes = {
        one["order_id"]: Outcome.from_wire(answer) for one, answer in zip(wanted, answers, strict=True)
    }
    return {
        order_id: one
        for order_id, one in outcomes.items()
        if getattr(one.error, "slug", None) not in _UNDECIDED
    }


def ask_users(
    users: Users, strangers: Mapping[int, Request]
) -> tuple[list[Customer], dict[int, Outcome[Order]]]:
    """The customers who are not known here yet, and an outcome for each request that is not to be had."""
    asked = sorted({request.user_id for request in strangers.values()})
    try:
        answers = [Outcome.from_wire(answer) for answer in users.get_users(user_ids=asked)]
    except (Unavailable, DeadlineExceeded) as error:
        answers = [Outcome(error=error)] * len(asked)
    except MeshError as error:
        log.error("users could not answer: %s", error)
        answers = [Outcome(error=Unavailable("users could not answer"))] * len(asked)
    by_user = dict(zip(asked, answers, strict=True))
    failed: dict[int, Outcome[Order]] = {
        index: Outcome(error=_why(request.user_id, by_user[request.user_id].error))
        for index, request in strangers.items()
        if by_user[request.user_id].error
    }
    return [customer_from_wire(one.unwrap()) for one in answers if one.error is None], failed


def _why(user_id: str, error: Exception | None) -> Exception | None:
    """A user whom nobody knows is the caller's mistake; else it is told as it came."""
    if isinstance(error, Refused) and error.slug == "not-found":
        return domain.UnknownCustomer(f"there is no user {user_id}", "user_id")
    return error


def customer_from_wire(user: Mapping[str, Any]) -> Customer:
    return Customer(id=user["id"], name=user["name"], email=user["email"], version=user["version"])
