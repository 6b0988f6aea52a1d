"""Placing an order across orders, users and products, so that every order ends, whatever dies.

    at once   reserve    products takes the stock, idempotent by order id, and tells of it in an event
              confirm    the order is committed confirmed, with the outbox rows of its events

What dies in between, or can't write, leaves a reservation of which an event is on its way; `complete`
then writes the order. What can't be had at once goes step by step:

              accept     the order is committed pending; users is asked about an unknown customer
              reserve    unless products has been asked
              settle     confirmed or rejected, with the outbox row of the event

What dies after `accept` leaves a pending order whose lease runs out; `sweep` then drives it on, with the
same id, until products has answered. No remote call happens inside a transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from mesh.backoff import back_off
from mesh.errors import DeadlineExceeded, MeshError, Refused, Unavailable
from mesh.outcome import Outcome
from mesh.values import value
from services.orders import commands, domain
from services.orders.domain import Customer, Line, Order, Request, Reserved
from services.orders.store import OrdersStore

log = logging.getLogger(__name__)

SWEEP_BATCH = 100
LONGEST_DELAY = 8.0
"""Seconds: an order is terminal within 30 s of the last fault, so it is asked about more often."""
ALERT_ATTEMPTS = 10
WRITE_SECONDS = 0.4
"""What is kept of a request's time, to write an order after others have been asked."""
MOMENT_SECONDS = commands.LONGEST_REQUEST.total_seconds()
"""After so long whoever had the stock of an order reserved has written the order, or never will."""

# Answers that settle nothing: products, or the way to it, was not able to decide.
_UNDECIDED = frozenset({"unavailable", "deadline-exceeded", "internal"})


class LeftBehind(Exception):
    """It has to be tried again."""


class Products(Protocol):
    def reserve_stocks(self, *, orders: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


class Users(Protocol):
    def get_users(self, *, user_ids: list[str]) -> list[dict[str, Any]]: ...


@value
class Ahead:
    """What products was asked before anything was written: for which requests, and what it has decided."""

    customers: Mapping[str, Customer]
    asked: Mapping[str, Request]
    decided: Mapping[str, Outcome[Mapping[str, Any]]]


_NOTHING_ASKED = Ahead({}, {}, {})


def place(
    store: OrdersStore, products: Products, users: Users, wishes: Sequence[Outcome[Request]]
) -> list[Outcome[Order]]:
    """An outcome for each wish. A pending order means that the outcome is not known yet."""
    answers: dict[int, Outcome[Order]] = {
        index: Outcome(error=wish.error) for index, wish in enumerate(wishes) if wish.error
    }
    requests = {index: wish.unwrap() for index, wish in enumerate(wishes) if not wish.error}
    if requests:
        ahead = _ask_ahead(store, products, requests.values())
        answers |= _answer_at_once(store, requests, ahead)
    if rest := {index: request for index, request in requests.items() if index not in answers}:
        try:
            answers |= _step_by_step(store, products, users, rest, ahead)
        except Exception as error:
            if not answers:
                raise
            answers |= dict.fromkeys(rest, Outcome(error=_told_of(error)))
    return [answers[index] for index in range(len(wishes))]


def _ask_ahead(store: OrdersStore, products: Products, requests: Iterable[Request]) -> Ahead:
    """Reserve for customers who are known, and orders of which no row is. Whoever dies now has not written
    them: products tells of the reservations, and `complete` writes them then."""
    customers = commands.known_customers(store, (request.user_id for request in requests))
    new = store.memory.without_row(request.order_id for request in requests)
    asked: dict[str, Request] = {}
    for request in requests:
        if request.order_id in new and request.user_id in customers:
            asked.setdefault(request.order_id, request)
    wanted = [_wanted(one.order_id, one.lines) | {"user_id": one.user_id} for one in asked.values()]
    return Ahead(customers, asked, _reserve(products, wanted) if wanted else {})


def _answer_at_once(
    store: OrdersStore, requests: Mapping[int, Request], ahead: Ahead
) -> dict[int, Outcome[Order]]:
    """Answers for those whose stock is reserved, if all of their orders are new, and for those whose key has
    been used for something else."""
    outcomes: dict[str, Outcome[Order]] = {}
    reserved: list[Reserved] = []
    for order_id, decision in ahead.decided.items():
        if decision.error is None:
            reserved.append((ahead.asked[order_id], decision.unwrap()))
        elif getattr(decision.error, "slug", None) == domain.KeyReused.slug:
            outcomes[order_id] = Outcome(error=domain.key_reused())
    if reserved:
        outcomes |= _confirm_reserved(store, reserved, ahead.customers)
    return {
        index: _shared(request, ahead.asked[request.order_id], outcomes[request.order_id])
        for index, request in requests.items()
        if request.order_id in outcomes
    }


def _confirm_reserved(
    store: OrdersStore, reserved: Sequence[Reserved], customers: Mapping[str, Customer]
) -> dict[str, Outcome[Order]]:
    try:
        orders = commands.confirm_at_once(store, reserved, customers)
    except Exception as error:  # whatever it is, the stock is reserved
        is_away = isinstance(error, Unavailable | DeadlineExceeded)
        log.warning("%d orders are written later: %s", len(reserved), error, exc_info=not is_away)
        unknown = DeadlineExceeded("the order could not be written in time: it may be, later")
        return {request.order_id: Outcome(error=unknown) for request, _ in reserved}
    return {order_id: Outcome(order) for order_id, order in (orders or {}).items()}


def _shared(request: Request, asked: Request, outcome: Outcome[Order]) -> Outcome[Order]:
    """The outcome of the request under an order's id that products was asked for, or of another one."""
    if request.fingerprint == asked.fingerprint:
        return outcome
    return Outcome(error=domain.key_reused() if outcome.error is None else domain.in_progress())


def _told_of(error: Exception) -> MeshError:
    """What those are told who have no answer yet, when others have theirs."""
    if isinstance(error, MeshError):
        return error
    log.error("some orders of a batch could not be placed", exc_info=error)
    return MeshError("orders could not place it")


def _step_by_step(
    store: OrdersStore, products: Products, users: Users, requests: Mapping[int, Request], ahead: Ahead
) -> dict[int, Outcome[Order]]:
    accepted = commands.accept(store, requests)
    answers, to_drive = dict(accepted.answers), dict(accepted.to_drive)
    if accepted.strangers:
        customers, failed = _ask_users(users, accepted.strangers)
        answers |= failed
        known = {index: one for index, one in accepted.strangers.items() if index not in failed}
        try:
            accepted = commands.accept(store, known, customers)
        except (Unavailable, DeadlineExceeded) as error:
            answers |= dict.fromkeys(known, Outcome(error=error))
        else:
            answers |= accepted.answers
            to_drive |= accepted.to_drive
    orders = {order.id: order for order in to_drive.values()}
    settled = drive(store, products, list(orders.values()), ahead)
    for index, order in to_drive.items():
        answers[index] = Outcome.of(partial(domain.replayed, settled[order.id], requests[index]))
    return answers


def drive(
    store: OrdersStore, products: Products, orders: Sequence[Order], ahead: Ahead = _NOTHING_ASKED
) -> dict[str, Order]:
    """Reserve and settle. An order that products did not decide stays pending, and is returned so."""
    after = {order.id: order for order in orders}
    asked = {order.id for order in orders if _was_asked(ahead, order)}
    decided = {order_id: one for order_id, one in ahead.decided.items() if order_id in asked}
    wanted = [_wanted(order.id, order.lines) for order in orders if order.id not in asked]
    if wanted:
        decided |= _reserve(products, wanted)
    if decided:
        try:
            after |= commands.settle(store, after, decided)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("%d orders stay pending: %s", len(decided), error)
    return after


def _was_asked(ahead: Ahead, order: Order) -> bool:
    """Whether it was this order, and not another under its key, that products was asked for."""
    request = ahead.asked.get(order.id)
    return request is not None and request.fingerprint == order.fingerprint


def left_behind(store: OrdersStore, order_ids: Iterable[str], told_at: datetime) -> set[str]:
    """Of orders for which products told at that moment that their stock is reserved, those that nobody has
    written: not now, and not a moment after they were told of."""
    missing = commands.unwritten(store, order_ids)
    left = MOMENT_SECONDS - (datetime.now(UTC) - told_at).total_seconds()
    if missing and left > 0:  # most likely somebody is just at it
        time.sleep(min(left, MOMENT_SECONDS))
        missing = commands.unwritten(store, missing)
    return missing


def complete(store: OrdersStore, products: Products, users: Users, requests: Sequence[Request]) -> None:
    """Place orders that were left behind with their stock reserved: products gives the answer that it gave.

    Raises LeftBehind when one can't be written now.
    """
    log.warning("%d orders were left behind with their stock reserved", len(requests))
    for start in range(0, len(requests), SWEEP_BATCH):
        some = requests[start : start + SWEEP_BATCH]
        place(store, products, users, [Outcome(request) for request in some])
    if missing := commands.unwritten(store, [request.order_id for request in requests]):
        raise LeftBehind(f"{len(missing)} orders have their stock reserved, and are not written yet")


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


def _wanted(order_id: str, lines: Iterable[Line]) -> dict[str, Any]:
    items = [{"product_id": line.product_id, "quantity": line.quantity} for line in lines]
    return {"order_id": order_id, "items": items, "exact": True}


def _reserve(products: Products, wanted: list[dict[str, Any]]) -> dict[str, Outcome[Mapping[str, Any]]]:
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
