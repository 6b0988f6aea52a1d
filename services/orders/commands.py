"""The use cases of orders: each function is one transaction, and the batch is the normal case.

`saga` says which of them place an order, and in which sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.outcome import Outcome
from nameko_mesh.sql import StaleWrite, optimistically, retry_on_conflict
from services.orders import domain, wire
from services.orders.domain import Customer, Order, Request
from services.orders.remote import Decisions
from services.orders.store import OrdersStore
from services.rules import checked_id

LEASE = timedelta(seconds=5)
"""The saga of a pending order belongs to one process for so long: more than the deadline of a request."""
REQUEST_TIMEOUT = timedelta(seconds=2.5)
"""By this time the caller of `place_order` has an answer, if only that the outcome is not known yet."""

Reserved = tuple[Request, Mapping[str, Any]]
"""A request whose order is not recorded yet, and its reservation."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of recording requests, by the index of the request."""

    outcomes: dict[int, Outcome[Order]]
    """Outcomes that are known already, because the request is repeated or its order is pending."""
    pending: dict[int, Order]
    """Pending orders that the caller has to settle."""
    unknown: dict[int, Request]
    """Requests that are not recorded, because their customer is unknown here."""


def known_customers(store: OrdersStore, user_ids: Iterable[str]) -> dict[str, Customer]:
    """Return the customers who are known here, by id. Without the database these are the cached customers."""
    wanted = set(user_ids)
    known = store.cache.customers(wanted)
    if missing := wanted - known.keys():
        try:
            with store.transaction(read_only=True) as tx:
                copies = tx.customers(missing)
        except (Unavailable, DeadlineExceeded):
            return known
        store.cache.put_customers(copies.values())
        known |= copies
    return known


def record_confirmed(
    store: OrdersStore, reserved: Sequence[Reserved], customers: Mapping[str, Customer]
) -> dict[str, Order]:
    """Record new orders as confirmed, in one statement: all of them, by id, or none.

    Returns no order if one exists already, or if a customer differs from the given copy.
    """

    def drop_stale_customers() -> dict[str, Order]:
        store.cache.drop_customers(customers)
        return {}

    return optimistically(lambda: _record_confirmed(store, reserved, customers), drop_stale_customers)


def _record_confirmed(
    store: OrdersStore, reserved: Sequence[Reserved], customers: Mapping[str, Customer]
) -> dict[str, Order]:
    now = datetime.now(UTC)
    orders: dict[str, Order] = {}
    for request, reservation in reserved:
        customer = customers[request.user_id]
        pending = domain.pending(request, customer.name, customer.email, now)
        orders[request.order_id] = domain.confirmed(pending, reservation, now)
    with store.transaction() as tx:
        tx.add_confirmed(list(orders.values()), customers)
        tx.publish(wire.placed_event(request) for request, _ in reserved)
        tx.publish(map(wire.status_event, orders.values()))
    store.cache.put_recorded(orders)
    return orders


def record_pending(
    store: OrdersStore, requests: Mapping[int, Request], customers: Sequence[Customer] = ()
) -> Recorded:
    """Record new orders as pending, leased to the caller. A repeated request gets its first answer.

    `customers` come from users just now. Their copies are written first.
    """
    if customers:
        return _record_each(store, requests, customers)
    return optimistically(lambda: _record_new(store, requests), lambda: _record_each(store, requests, ()))


def _record_new(store: OrdersStore, requests: Mapping[int, Request]) -> Recorded:
    """Record in one statement. Raises StaleWrite unless all orders are new, and all customers known."""
    by_order = _first_requests(requests.values())
    if len(by_order) < len(requests):
        raise StaleWrite
    with store.transaction() as tx:
        tx.add_pending(list(by_order.values()), LEASE, all_or_none=True)
        tx.publish(map(wire.placed_event, by_order.values()))
    new = tx.added
    store.cache.put_recorded(new)
    return Recorded({}, {index: new[request.order_id] for index, request in requests.items()}, {})


@retry_on_conflict
def _record_each(
    store: OrdersStore, requests: Mapping[int, Request], customers: Sequence[Customer]
) -> Recorded:
    by_order = _first_requests(requests.values())
    with store.transaction() as tx:
        for customer in customers:
            tx.learn(customer)
        tx.add_pending(list(by_order.values()), LEASE)
        tx.flush()
        new = tx.added
        existing = tx.orders(by_order.keys() - new.keys())
        # A different request under the same key takes no lease, because that would delay the order.
        repeated = {(request.order_id, request.fingerprint) for request in requests.values()}
        unsettled = [
            order.id
            for order in existing.values()
            if order.status == domain.PENDING and (order.id, order.fingerprint) in repeated
        ]
        leased = tx.lease(unsettled, LEASE) if unsettled else set()
        tx.publish(wire.placed_event(by_order[order_id]) for order_id in new)
    store.cache.put_recorded(new.keys() | existing.keys())
    return _recorded(requests, {**existing, **new}, new.keys() | leased)


def _recorded(requests: Mapping[int, Request], orders: Mapping[str, Order], leased: set[str]) -> Recorded:
    """Sort the requests: answered, pending and to be settled, or of unknown customers."""
    outcomes: dict[int, Outcome[Order]] = {}
    pending: dict[int, Order] = {}
    for index, request in requests.items():
        if order := orders.get(request.order_id):
            is_leased = order.id in leased
            outcomes[index] = Outcome.of(partial(_first_answer, order, request, is_leased))
            if is_leased and outcomes[index].error is None:
                pending[index] = order
    unknown = {index: request for index, request in requests.items() if request.order_id not in orders}
    return Recorded(outcomes, pending, unknown)


def _first_requests(requests: Iterable[Request]) -> dict[str, Request]:
    """Return the first request of each order, by order id."""
    by_order: dict[str, Request] = {}
    for request in requests:
        by_order.setdefault(request.order_id, request)
    return by_order


def _first_answer(order: Order, request: Request, is_leased: bool) -> Order:
    """Return the first answer to the request. Raises InProgress while the first request is still running."""
    first_answer = domain.first_answer(order, request)
    is_running = datetime.now(UTC) - order.created_at <= REQUEST_TIMEOUT
    if order.status == domain.PENDING and not is_leased and is_running:
        raise domain.InProgress
    return first_answer


def settle(store: OrdersStore, pending: Mapping[str, Order], decisions: Decisions) -> dict[str, Order]:
    """Confirm or reject orders by the decisions of products. A settled order stays as it is."""
    before = {order_id: pending[order_id] for order_id in decisions}
    return optimistically(
        lambda: _settle(store, before, decisions),
        lambda: _settle_locked(store, decisions),  # an order was cancelled or settled since it was read
    )


@retry_on_conflict
def _settle_locked(store: OrdersStore, decisions: Decisions) -> dict[str, Order]:
    return _settle(store, None, decisions)


def _settle(store: OrdersStore, before: Mapping[str, Order] | None, decisions: Decisions) -> dict[str, Order]:
    """Settle the orders as given in `before`, or as read under a lock if it is None."""
    now = datetime.now(UTC)
    with store.transaction() as tx:
        before = tx.orders(decisions, lock=True) if before is None else before
        after = {order_id: _settled(order, decisions[order_id], now) for order_id, order in before.items()}
        changed = [order for order_id, order in after.items() if order is not before[order_id]]
        tx.save(changed)
        tx.publish(map(wire.status_event, changed))
    return after


def _settled(order: Order, decision: Outcome[Mapping[str, Any]], now: datetime) -> Order:
    if decision.error is None:
        return domain.confirmed(order, decision.unwrap(), now)
    if getattr(decision.error, "slug", None) == domain.KeyReused.slug and order.status == domain.PENDING:
        return domain.cancelled(order)  # so that products gives back what another request reserved by this id
    return domain.rejected(order, decision.to_wire()["error"])


@retry_on_conflict
def cancel_order(store: OrdersStore, order_id: str) -> Order:
    """Cancel a pending or confirmed order. Its event makes products give the stock back."""
    with store.transaction() as tx:
        before = tx.order(checked_id(order_id, "order_id"), lock=True)
        after = domain.cancelled(before)
        if after is not before:
            tx.save([after])
            tx.publish([wire.status_event(after)])
    return after


def get_order(store: OrdersStore, order_id: str) -> Order:
    """Read an order. Raises Invalid or UnknownOrder."""
    with store.transaction(read_only=True) as tx:
        return tx.order(checked_id(order_id, "order_id"))


def list_orders(
    store: OrdersStore, user_id: str, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Order]:
    """Read up to `limit` orders of a user, newest first, that are older than `before` (created_at, id)."""
    checked_id(user_id, "user_id")
    with store.transaction(read_only=True) as tx:
        return tx.page(user_id, before, limit)


@retry_on_conflict
def learn_customer(store: OrdersStore, customer: Customer) -> None:
    """Keep a copy of a customer if it is newer, so that a repeated or late event changes nothing."""
    with store.transaction() as tx:
        tx.learn(customer)
