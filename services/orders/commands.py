"""What can be done with orders: each function is one transaction, and a batch is the normal case.

Placing an order takes one of them, `confirm_at_once`, or two, `accept` and `settle`: see saga.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.events import Event
from nameko_mesh.outcome import Outcome
from nameko_mesh.sql.retry import optimistically, retry_on_conflict
from nameko_mesh.sql.write_batch import StaleWrite
from nameko_mesh.values import value
from services.orders import domain
from services.orders.domain import Customer, Order, Request, Reserved
from services.orders.events import OrderCancelled, OrderConfirmed, OrderedLine, OrderPlaced, OrderRejected
from services.orders.store import OrdersStore
from services.rules import checked_id

LEASE = timedelta(seconds=5)
"""A pending order is left alone for so long by others than the one who works on it: more than
the whole deadline of a request."""


MOST_PENDING = 1000
"""Of so many pending orders this process is to know that they are there, whoever has written them."""

LONGEST_REQUEST = timedelta(seconds=2.5)
"""After so long whoever asked first has an answer: that the outcome is not known yet."""


@value
class Accepted:
    """What became of the requests: answers known already, pending orders to be driven on, and
    requests of users of whom there is no copy yet."""

    answers: dict[int, Outcome[Order]]
    to_drive: dict[int, Order]
    strangers: dict[int, Request]


def accept(store: OrdersStore, requests: Mapping[int, Request], news: Iterable[Customer] = ()) -> Accepted:
    """Write new orders as pending. A request that came before gets its first answer.

    `news` is what users has told of customers, and is kept.
    """
    if news:
        return _accept_any(store, requests, news)
    return optimistically(lambda: _accept_new(store, requests), lambda: _accept_any(store, requests, news))


def _accept_new(store: OrdersStore, requests: Mapping[int, Request]) -> Accepted:
    """In one statement. Raises StaleWrite when not all orders are new, or of
    customers who are known."""
    firsts = _by_order(requests.values())
    if len(firsts) < len(requests):
        raise StaleWrite
    with store.transaction() as tx:
        new = tx.add(list(firsts.values()), LEASE, all_or_none=True)
        tx.publish(map(_placed, firsts.values()))
    store.memory.note_rows(new)
    return Accepted({}, {index: new[request.order_id] for index, request in requests.items()}, {})


@retry_on_conflict
def _accept_any(store: OrdersStore, requests: Mapping[int, Request], news: Iterable[Customer]) -> Accepted:
    answers: dict[int, Outcome[Order]] = {}
    to_drive: dict[int, Order] = {}
    strangers: dict[int, Request] = {}
    firsts = _by_order(requests.values())
    with store.transaction() as tx:
        for customer in news:
            tx.learn(customer)
        new = tx.add(list(firsts.values()), LEASE)
        tx.flush()
        known = tx.orders(firsts.keys() - new.keys())
        # Only for who asks for the same again: another body under the key must not hold the order up.
        asked = {(request.order_id, request.fingerprint) for request in requests.values()}
        unfinished = [
            order.id
            for order in known.values()
            if order.status == domain.PENDING and (order.id, order.fingerprint) in asked
        ]
        leased = tx.lease(unfinished, LEASE) if unfinished else set()
        tx.publish(_placed(firsts[order_id]) for order_id in new)
    store.memory.note_rows(new.keys() | known.keys())
    for index, request in requests.items():
        before = new.get(request.order_id) or known.get(request.order_id)
        if before is None:
            strangers[index] = request
            continue
        ours = before.id in new or before.id in leased
        answers[index] = Outcome.of(partial(_answered, before, request, ours))
        if ours and answers[index].error is None:
            to_drive[index] = before
    return Accepted(answers, to_drive, strangers)


def known_customers(store: OrdersStore, user_ids: Iterable[str]) -> dict[str, Customer]:
    """Those of whom there is a copy, by id: as remembered here, else as it is, if it can be read."""
    wanted = set(user_ids)
    known = store.memory.recall(wanted)
    if unknown := wanted - known.keys():
        try:
            with store.transaction(read_only=True) as tx:
                read = tx.customers(unknown)
        except (Unavailable, DeadlineExceeded):
            return known
        store.memory.remember(read.values())
        known |= read
    return known


def confirm_at_once(
    store: OrdersStore, reserved: Sequence[Reserved], customers: Mapping[str, Customer]
) -> dict[str, Order] | None:
    """Write new orders whose stock is reserved, in one statement: all of them, by id, or none.

    None is returned when one is not new, or of a customer who is not as remembered.
    """

    def not_so() -> None:
        store.memory.forget(customers)

    return optimistically(lambda: _confirm_at_once(store, reserved, customers), not_so)


def _confirm_at_once(
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
        tx.publish(_placed(request) for request, _ in reserved)
        tx.publish(map(_news, orders.values()))
    store.memory.note_rows(orders)
    return orders


def unwritten(store: OrdersStore, order_ids: Iterable[str]) -> set[str]:
    """Those of which there is no order."""
    wanted = store.memory.without_row(order_ids)
    if not wanted:
        return wanted
    with store.transaction(read_only=True) as tx:
        return wanted - tx.known(wanted)


def _by_order(requests: Iterable[Request]) -> dict[str, Request]:
    """The first request for each order."""
    firsts: dict[str, Request] = {}
    for request in requests:
        firsts.setdefault(request.order_id, request)
    return firsts


def _answered(order: Order, request: Request, ours: bool) -> Order:
    """The first answer; an order without one yet is for the caller to drive, if it is the caller's."""
    answer = domain.replayed(order, request)
    answered = datetime.now(UTC) - order.created_at > LONGEST_REQUEST
    if order.status == domain.PENDING and not ours and not answered:
        raise domain.in_progress()
    return answer


def settle(
    store: OrdersStore,
    pending: Mapping[str, Order],
    reservations: Mapping[str, Outcome[Mapping[str, Any]]],
) -> dict[str, Order]:
    """Confirm or reject orders by what products answered. One that was settled before stays as it is."""
    before = {order_id: pending[order_id] for order_id in reservations}
    return optimistically(
        lambda: _settle(store, before, reservations),
        lambda: retry_on_conflict(_settle)(
            store, None, reservations
        ),  # one was cancelled meanwhile, or driven on
    )


def _settle(
    store: OrdersStore,
    before: Mapping[str, Order] | None,
    reservations: Mapping[str, Outcome[Mapping[str, Any]]],
) -> dict[str, Order]:
    """`before` are the orders as they were, or None where they have to be read again."""
    now = datetime.now(UTC)
    with store.transaction() as tx:
        before = tx.orders(reservations, lock=True) if before is None else before
        after = {order_id: _decided(order, reservations[order_id], now) for order_id, order in before.items()}
        changed = [order for order_id, order in after.items() if order is not before[order_id]]
        tx.save(changed)
        tx.publish(map(_news, changed))
    return after


def _decided(order: Order, reservation: Outcome[Mapping[str, Any]], now: datetime) -> Order:
    if reservation.error is None:
        return domain.confirmed(order, reservation.unwrap(), now)
    if getattr(reservation.error, "slug", None) == domain.KeyReused.slug and order.status == domain.PENDING:
        return domain.cancelled(
            order
        )  # another under its key was faster: if that has stock, it is given back
    error = reservation.to_wire()["error"]
    return domain.rejected(order, error)


@retry_on_conflict
def cancel_order(store: OrdersStore, order_id: str) -> Order:
    """Cancel a pending or confirmed order. Products gives the stock back when it hears of it."""
    with store.transaction() as tx:
        before = tx.order(checked_id(order_id, "order_id"), lock=True)
        after = domain.cancelled(before)
        if after is not before:
            tx.save([after])
            tx.publish([_news(after)])
    return after


def get_order(store: OrdersStore, order_id: str) -> Order:
    with store.transaction(read_only=True) as tx:
        return tx.order(checked_id(order_id, "order_id"))


def list_orders(
    store: OrdersStore, user_id: str, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Order]:
    checked_id(user_id, "user_id")
    with store.transaction(read_only=True) as tx:
        return tx.page(user_id, before, limit)


@retry_on_conflict
def learn_customer(store: OrdersStore, customer: Customer) -> None:
    """Applies what is newer than the copy; the same event twice, or late, changes nothing."""
    with store.transaction() as tx:
        tx.learn(customer)


@retry_on_conflict
def lease_due(store: OrdersStore, limit: int) -> list[tuple[Order, int]]:
    """Pending orders that were left behind, with the number of attempts made."""
    with store.transaction() as tx:
        leased = tx.lease_due(limit, LEASE)
        pending = tx.pending_ids(MOST_PENDING)
    store.memory.note_rows(pending)
    return leased


@retry_on_conflict
def put_off(store: OrdersStore, delays: Mapping[str, timedelta]) -> None:
    with store.transaction() as tx:
        for order_id, delay in sorted(delays.items()):
            tx.put_off(order_id, delay)


def _placed(request: Request) -> tuple[Event, int]:
    items = [_line(line) for line in request.lines]
    base = {"order_id": request.order_id, "user_id": request.user_id, "status": domain.PENDING}
    return OrderPlaced(**base, items=items), domain.FIRST_VERSION


def _news(order: Order) -> tuple[Event, int]:
    """The event of the state that the order has just reached."""
    base = {"order_id": order.id, "user_id": order.user_id, "status": order.status}
    if order.status == domain.REJECTED:
        reason = order.reason or {}
        return OrderRejected(**base, reason=reason["code"], message=reason["message"]), order.version
    kind: Any = OrderConfirmed if order.status == domain.CONFIRMED else OrderCancelled
    items = [_line(line) for line in order.lines]
    customer = {"name": order.user_name, "email": order.user_email}
    money = {"total_minor": order.total_minor, "currency": order.currency}
    return kind(**base, **customer, items=items, **money), order.version


def _line(line: domain.Line) -> OrderedLine:
    return {
        "product_id": line.product_id,
        "name": line.name,
        "quantity": line.quantity,
        "unit_price_minor": line.unit_price_minor,
    }
