"""Orders that are written once: products is asked before anything is, and then they are committed confirmed.

Whoever dies in between has written nothing, but products tells of what it has reserved: see saga.complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.outcome import Outcome
from nameko_mesh.values import value
from services.orders import commands, domain, remote
from services.orders.domain import Customer, Order, Request, Reserved
from services.orders.remote import Products
from services.orders.store import OrdersStore

log = logging.getLogger(__name__)


@value
class Ahead:
    """What products was asked before anything was written: for which requests, and what it has decided."""

    customers: Mapping[str, Customer]
    asked: Mapping[str, Request]
    decided: Mapping[str, Outcome[Mapping[str, Any]]]

    def has_asked_for(self, order: Order) -> bool:
        """Whether it was this order, and not another under its key, that products was asked for."""
        request = self.asked.get(order.id)
        return request is not None and request.fingerprint == order.fingerprint


NOTHING_ASKED = Ahead({}, {}, {})


def ask_ahead(store: OrdersStore, products: Products, requests: Iterable[Request]) -> Ahead:
    """Reserve for customers who are known, and orders of which no row is. Whoever dies now has not written
    them: products tells of the reservations, and `saga.complete` writes them then."""
    customers = commands.known_customers(store, (request.user_id for request in requests))
    new = store.memory.without_row(request.order_id for request in requests)
    asked: dict[str, Request] = {}
    for request in requests:
        if request.order_id in new and request.user_id in customers:
            asked.setdefault(request.order_id, request)
    wanted = [remote.wanted_for(one.order_id, one.lines) | {"user_id": one.user_id} for one in asked.values()]
    return Ahead(customers, asked, remote.reserve(products, wanted) if wanted else {})


def answer(store: OrdersStore, requests: Mapping[int, Request], ahead: Ahead) -> dict[int, Outcome[Order]]:
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
