"""Placing an order across orders, users and products, so that every order ends, whatever dies.

    step      here                              elsewhere
    accept    the order is committed pending    users is asked about an unknown customer
    reserve                                     products takes the stock, idempotent by order id
    settle    confirmed or rejected, with the outbox row of the event

No remote call happens inside a transaction. What dies between the steps leaves a pending order
whose lease runs out; `sweep` then drives it on, with the same id, until products has answered.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from mesh.backoff import back_off
from mesh.errors import DeadlineExceeded, MeshError, Refused, Unavailable
from mesh.outcome import Outcome
from services.orders import commands, domain
from services.orders.domain import Customer, Order, Request
from services.orders.store import OrdersStore

log = logging.getLogger(__name__)

SWEEP_BATCH = 100
LONGEST_DELAY = 8.0
"""Seconds: an order is terminal within 30 s of the last fault, so it is asked about more often."""
ALERT_ATTEMPTS = 10

# Answers that settle nothing: products, or the way to it, was not able to decide.
_UNDECIDED = frozenset({"unavailable", "deadline-exceeded", "internal"})


class Products(Protocol):
    def reserve_stocks(self, *, orders: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


class Users(Protocol):
    def get_users(self, *, user_ids: list[str]) -> list[dict[str, Any]]: ...


def place(
    store: OrdersStore, products: Products, users: Users, wishes: Sequence[Outcome[Request]]
) -> list[Outcome[Order]]:
    """An outcome for each wish. A pending order means that the outcome is not known yet."""
    answers: dict[int, Outcome[Order]] = {
        index: Outcome(error=wish.error) for index, wish in enumerate(wishes) if wish.error
    }
    requests = {index: wish.unwrap() for index, wish in enumerate(wishes) if not wish.error}
    to_drive: dict[int, Order] = {}
    if requests:
        accepted = commands.accept(store, requests)
        answers |= accepted.answers
        to_drive |= accepted.to_drive
        if accepted.strangers:
            customers, failed = _ask_users(users, accepted.strangers)
            answers |= failed
            known = {index: one for index, one in accepted.strangers.items() if index not in failed}
            accepted = commands.accept(store, known, customers)
            answers |= accepted.answers
            to_drive |= accepted.to_drive
    settled = drive(store, products, list({order.id: order for order in to_drive.values()}.values()))
    for index, order in to_drive.items():
        answers[index] = Outcome.of(partial(domain.replayed, settled[order.id], requests[index]))
    return [answers[index] for index in range(len(wishes))]


def drive(store: OrdersStore, products: Products, orders: Sequence[Order]) -> dict[str, Order]:
    """Reserve and settle. An order that products did not decide stays pending, and is returned so."""
    after = {order.id: order for order in orders}
    decided = _reserve(products, list(after.values())) if orders else {}
    if decided:
        try:
            after |= commands.settle(store, after, decided)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("%d orders stay pending: %s", len(decided), error)
    return after


def sweep(store: OrdersStore, products: Products) -> int:
    """Drive on what was left behind. Returns how many orders were taken in hand."""
    leased = commands.lease_due(store, SWEEP_BATCH)
    if not leased:
        return 0
    after = drive(store, products, [order for order, _ in leased])
    delays = {}
    for order, attempts in leased:
        if after[order.id].status == domain.PENDING:
            delays[order.id] = _delay(attempts)
            if attempts >= ALERT_ATTEMPTS:
                log.error("order %s is still pending after %d attempts", order.id, attempts)
    if delays:
        commands.put_off(store, delays)
    return len(leased)


def _delay(attempts: int) -> timedelta:
    return timedelta(seconds=back_off(attempts, first=0.5, longest=LONGEST_DELAY))


def _reserve(products: Products, orders: Sequence[Order]) -> dict[str, Outcome[Mapping[str, Any]]]:
    """What products has decided, by order."""
    asked = [
        {
            "order_id": order.id,
            "items": [{"product_id": line.product_id, "quantity": line.quantity} for line in order.lines],
        }
        for order in orders
    ]
    try:
        answers = products.reserve_stocks(orders=asked)
    except MeshError as error:
        log.warning("%d orders stay pending: products: %s", len(orders), error)
        return {}
    outcomes = {order.id: Outcome.from_wire(answer) for order, answer in zip(orders, answers, strict=True)}
    return {
        order_id: one
        for order_id, one in outcomes.items()
        if getattr(one.error, "slug", None) not in _UNDECIDED
    }


def _ask_users(
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
