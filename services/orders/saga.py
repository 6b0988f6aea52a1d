"""Placing orders across orders, users and products, so that every order ends, whatever dies.

An order goes from `service.place_order` to `place_orders` below, and from here to `commands`:

    way             step      what happens                                           in
    reserve_first   reserve   products takes the stock: all lines or none            remote.reserve
                    record    the order is committed as confirmed                    commands.record_confirmed
    record_first    record    the order is committed as pending                      commands.record_pending
                    reserve   as above, unless products has decided already          remote.reserve
                    settle    the order is committed as confirmed or rejected        commands.settle

`reserve_first` takes one transaction. It serves new orders of customers who are known here, if products has
the stock. All other orders go by `record_first`. Each commit writes the events of the order to the outbox.
Reservations are idempotent by order id, and no remote call happens inside a transaction.

What a process that dies leaves behind, and what `recovery` does about it:

    it dies after   in               it leaves                     until
    reserve         reserve_first    a reservation without order   its event arrives: place_abandoned
    record          record_first     a pending order               its lease runs out: sweep
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nameko_mesh.errors import DeadlineExceeded, MeshError, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import commands, domain, remote
from services.orders.commands import Reserved
from services.orders.domain import Customer, Order, Request
from services.orders.remote import Decisions, Products, Users
from services.orders.store import OrdersStore

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.4
"""The part of a request's time that calls of other services leave for recording the order."""

Requests = Mapping[int, Request]
Outcomes = dict[int, Outcome[Order]]
"""Requests and their outcomes, by the position of the request in its batch."""


@dataclass(frozen=True, slots=True)
class Reservations:
    """The requests that products was asked to reserve, and its decisions, by order id.

    A request without a decision may hold its stock all the same: products did not answer.
    """

    requests: Mapping[str, Request]
    decisions: Decisions

    def cover(self, order: Order) -> bool:
        """Tell whether products got the request of this order, not another request under its key."""
        request = self.requests.get(order.id)
        return request is not None and request.fingerprint == order.fingerprint


NO_RESERVATIONS = Reservations({}, {})


def place_orders(
    store: OrdersStore, products: Products, users: Users, requests: Sequence[Outcome[Request]]
) -> list[Outcome[Order]]:
    """Place the valid requests of a batch. Returns an outcome for each request, in their order.

    A pending order means that its outcome is not known yet.
    """
    valid = {index: request.unwrap() for index, request in enumerate(requests) if request.error is None}
    outcomes: Outcomes = {
        index: Outcome(error=request.error) for index, request in enumerate(requests) if index not in valid
    }
    confirmed, reservations = reserve_first(store, products, valid)
    outcomes |= confirmed
    if rest := {index: request for index, request in valid.items() if index not in outcomes}:
        try:
            outcomes |= record_first(store, products, users, rest, reservations)
        except Exception as error:
            if not outcomes:
                raise
            outcomes |= dict.fromkeys(rest, Outcome(error=_reported(error)))
    return [outcomes[index] for index in range(len(requests))]


def _reported(error: Exception) -> MeshError:
    """Return the error for the orders of a batch that have no outcome, while other orders have one."""
    if isinstance(error, MeshError):
        return error
    log.error("some orders of a batch could not be placed", exc_info=error)
    return MeshError("orders could not place the order")


def reserve_first(
    store: OrdersStore, products: Products, requests: Requests
) -> tuple[Outcomes, Reservations]:
    """Reserve the stock, then record the orders as confirmed.

    Returns the outcomes of orders that are confirmed or whose key is taken, and the decisions of products.
    The other orders are left to `record_first`.
    """
    customers = commands.known_customers(store, (request.user_id for request in requests.values()))
    reservations = _reserve_new(store, products, requests.values(), customers)
    by_order = _record_reserved(store, reservations, customers)
    outcomes = {
        index: _for_request(request, reservations.requests[request.order_id], by_order[request.order_id])
        for index, request in requests.items()
        if request.order_id in by_order
    }
    return outcomes, reservations


def _reserve_new(
    store: OrdersStore, products: Products, requests: Iterable[Request], customers: Mapping[str, Customer]
) -> Reservations:
    """Reserve for new orders of known customers. An order is new if the cache does not know it."""
    new = store.cache.without_recorded(request.order_id for request in requests)
    by_order: dict[str, Request] = {}
    for request in requests:
        if request.order_id in new and request.user_id in customers:
            by_order.setdefault(request.order_id, request)
    wanted = [remote.new_reservation(request) for request in by_order.values()]
    return Reservations(by_order, remote.reserve(products, wanted))


def _record_reserved(
    store: OrdersStore, reservations: Reservations, customers: Mapping[str, Customer]
) -> dict[str, Outcome[Order]]:
    """Record the orders that have their stock. Returns the outcomes that are known by then, by order id."""
    outcomes: dict[str, Outcome[Order]] = {}
    reserved: list[Reserved] = []
    for order_id, decision in reservations.decisions.items():
        if decision.error is None:
            reserved.append((reservations.requests[order_id], decision.unwrap()))
        elif getattr(decision.error, "slug", None) == domain.KeyReused.slug:
            outcomes[order_id] = Outcome(error=domain.KeyReused())
    try:
        orders = commands.record_confirmed(store, reserved, customers) if reserved else {}
    except Exception as error:  # any error, because the stock is reserved: recovery records the orders
        is_expected = isinstance(error, Unavailable | DeadlineExceeded)
        log.warning("%d orders are recorded later: %s", len(reserved), error, exc_info=not is_expected)
        unknown = DeadlineExceeded("the order was not recorded in time; it may be recorded later")
        return outcomes | {request.order_id: Outcome(error=unknown) for request, _ in reserved}
    return outcomes | {order_id: Outcome(order) for order_id, order in orders.items()}


def _for_request(request: Request, reserved: Request, outcome: Outcome[Order]) -> Outcome[Order]:
    """Return the outcome of the reserved request, or an error for another request under the same key."""
    if request.fingerprint == reserved.fingerprint:
        return outcome
    return Outcome(error=domain.KeyReused() if outcome.error is None else domain.InProgress())


def record_first(
    store: OrdersStore, products: Products, users: Users, requests: Requests, reservations: Reservations
) -> Outcomes:
    """Record the orders as pending, then reserve and settle them."""
    outcomes, pending = _record_with_customers(store, users, requests)
    settled = reserve_and_settle(store, products, list(pending.values()), reservations)
    for index, order in pending.items():
        outcomes[index] = Outcome.of(partial(domain.first_answer, settled[order.id], requests[index]))
    return outcomes


def _record_with_customers(
    store: OrdersStore, users: Users, requests: Requests
) -> tuple[Outcomes, dict[int, Order]]:
    """Record the orders. The service users is asked for customers who are unknown here.

    Returns the outcomes that are known, and the pending orders to be settled.
    """
    recorded = commands.record_pending(store, requests)
    if not recorded.unknown:
        return recorded.outcomes, recorded.pending
    customers, failed = remote.fetch_customers(users, recorded.unknown)
    outcomes = recorded.outcomes | failed
    known = {index: request for index, request in recorded.unknown.items() if index not in failed}
    if not known:
        return outcomes, recorded.pending
    try:
        late = commands.record_pending(store, known, customers)
    except (Unavailable, DeadlineExceeded) as error:
        return outcomes | dict.fromkeys(known, Outcome(error=error)), recorded.pending
    return outcomes | late.outcomes, recorded.pending | late.pending


def reserve_and_settle(
    store: OrdersStore,
    products: Products,
    pending: Iterable[Order],
    reservations: Reservations = NO_RESERVATIONS,
) -> dict[str, Order]:
    """Reserve, unless `reservations` cover the order, and settle. Returns the orders by id.

    An order without a decision of products stays pending.
    """
    orders = {order.id: order for order in pending}
    covered = {order.id for order in orders.values() if reservations.cover(order)}
    decisions = {
        order_id: decision for order_id, decision in reservations.decisions.items() if order_id in covered
    }
    others = [order for order in orders.values() if order.id not in covered]
    wanted = [remote.recorded_reservation(order.id, order.lines) for order in others]
    decisions |= remote.reserve(products, wanted)
    if decisions:
        try:
            orders |= commands.settle(store, orders, decisions)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("%d orders stay pending: %s", len(decisions), error)
    return orders
