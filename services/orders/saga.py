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

from nameko_mesh.backoff import back_off
from nameko_mesh.errors import DeadlineExceeded, MeshError, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import commands, domain, remote, reserve_first
from services.orders.domain import Order, Request
from services.orders.remote import Products, Users
from services.orders.reserve_first import NOTHING_ASKED, Ahead
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


class LeftBehind(Exception):
    """It has to be tried again."""


def place(
    store: OrdersStore, products: Products, users: Users, wishes: Sequence[Outcome[Request]]
) -> list[Outcome[Order]]:
    """An outcome for each wish. A pending order means that the outcome is not known yet."""
    answers: dict[int, Outcome[Order]] = {
        index: Outcome(error=wish.error) for index, wish in enumerate(wishes) if wish.error
    }
    requests = {index: wish.unwrap() for index, wish in enumerate(wishes) if not wish.error}
    if requests:
        ahead = reserve_first.ask_ahead(store, products, requests.values())
        answers |= reserve_first.answer(store, requests, ahead)
    if rest := {index: request for index, request in requests.items() if index not in answers}:
        try:
            answers |= _step_by_step(store, products, users, rest, ahead)
        except Exception as error:
            if not answers:
                raise
            answers |= dict.fromkeys(rest, Outcome(error=_told_of(error)))
    return [answers[index] for index in range(len(wishes))]


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
        customers, failed = remote.ask_users(users, accepted.strangers)
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
    store: OrdersStore, products: Products, orders: Sequence[Order], ahead: Ahead = NOTHING_ASKED
) -> dict[str, Order]:
    """Reserve and settle. An order that products did not decide stays pending, and is returned so."""
    after = {order.id: order for order in orders}
    asked = {order.id for order in orders if ahead.has_asked_for(order)}
    decided = {order_id: one for order_id, one in ahead.decided.items() if order_id in asked}
    wanted = [remote.wanted_for(order.id, order.lines) for order in orders if order.id not in asked]
    if wanted:
        decided |= remote.reserve(products, wanted)
    if decided:
        try:
            after |= commands.settle(store, after, decided)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("%d orders stay pending: %s", len(decided), error)
    return after


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
