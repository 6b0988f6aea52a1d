"""Finishes the orders that a process has left behind: see the second table of `saga`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nameko_mesh.backoff import back_off
from nameko_mesh.outcome import Outcome
from nameko_mesh.sql import retry_on_conflict
from services.orders import commands, domain, saga, wire
from services.orders.domain import Order, Request
from services.orders.remote import Products, Users
from services.orders.store import OrdersStore

log = logging.getLogger(__name__)

BATCH_SIZE = 100
MAX_DELAY_SECONDS = 8.0
"""The longest pause between two attempts. With it an order is settled within 30 s of the last fault."""
ALERT_ATTEMPTS = 10
"""From this attempt on, an order that stays pending is an error in the log. The attempts go on."""
MAX_CACHED_PENDING = 1000
"""Each sweep caches the ids of so many pending orders, including orders of other instances."""
RECORD_TIMEOUT_SECONDS = commands.REQUEST_TIMEOUT.total_seconds()
"""After this time the process that reserved the stock of an order has recorded it, or never will."""


class OrdersNotRecorded(Exception):
    """Reserved orders could not be recorded now: the event has to be handled again."""


def complete_reserved(
    store: OrdersStore,
    products: Products,
    users: Users,
    reserved: Mapping[str, Mapping[str, Any]],
    reserved_at: datetime,
) -> None:
    """Place the orders of a `stocks_reserved` event that no process has recorded.

    `reserved` has the orders as the event carries them, by id. Raises OrdersNotRecorded.
    """
    if missing := abandoned(store, reserved, reserved_at):
        requests = [wire.request_from_reserved(reserved[order_id]) for order_id in missing]
        place_abandoned(store, products, users, requests)


def abandoned(store: OrdersStore, order_ids: Iterable[str], reserved_at: datetime) -> set[str]:
    """Return the ids of the orders that no process has recorded since their stock was reserved.

    Waits until the process that reserved the stock at `reserved_at` has had the time to record them.
    """
    missing = unrecorded(store, order_ids)
    wait = RECORD_TIMEOUT_SECONDS - (datetime.now(UTC) - reserved_at).total_seconds()
    if missing and wait > 0:
        time.sleep(min(wait, RECORD_TIMEOUT_SECONDS))
        missing = unrecorded(store, missing)
    return missing


def place_abandoned(
    store: OrdersStore, products: Products, users: Users, requests: Sequence[Request]
) -> None:
    """Place orders whose stock is reserved: products repeats its decisions.

    Raises OrdersNotRecorded if an order could not be recorded.
    """
    log.warning("%d orders were abandoned with their stock reserved", len(requests))
    for start in range(0, len(requests), BATCH_SIZE):
        batch = requests[start : start + BATCH_SIZE]
        saga.place_orders(store, products, users, [Outcome(request) for request in batch])
    if missing := unrecorded(store, [request.order_id for request in requests]):
        raise OrdersNotRecorded(f"{len(missing)} orders have their stock reserved, but are not recorded yet")


def sweep_all(store: OrdersStore, products: Products) -> None:
    """Sweep until a batch is not full, because behind a full batch more orders may be due."""
    while sweep(store, products) == BATCH_SIZE:
        pass


def sweep(store: OrdersStore, products: Products) -> int:
    """Reserve and settle a batch of pending orders whose lease is over. Returns the number of orders."""
    leased = lease_due(store, BATCH_SIZE)
    if not leased:
        return 0
    after = saga.reserve_and_settle(store, products, [order for order, _ in leased])
    pending = {order.id: tries for order, tries in leased if after[order.id].status == domain.PENDING}
    for order_id, attempts in pending.items():
        if attempts >= ALERT_ATTEMPTS:
            log.error("order %s is still pending after %d attempts", order_id, attempts)
    if pending:
        put_off(store, {order_id: _delay(attempts) for order_id, attempts in pending.items()})
    return len(leased)


def _delay(attempts: int) -> timedelta:
    return timedelta(seconds=back_off(attempts, first=0.5, longest=MAX_DELAY_SECONDS))


def unrecorded(store: OrdersStore, order_ids: Iterable[str]) -> set[str]:
    """Return the ids of orders that are not in the database."""
    missing = store.cache.without_recorded(order_ids)
    if not missing:
        return missing
    with store.transaction(read_only=True) as tx:
        return missing - tx.recorded(missing)


@retry_on_conflict
def lease_due(store: OrdersStore, limit: int) -> list[tuple[Order, int]]:
    """Lease pending orders whose lease is over. Returns them with the number of attempts made."""
    with store.transaction() as tx:
        leased = tx.lease_due(limit, commands.LEASE)
        pending = tx.pending_ids(MAX_CACHED_PENDING)
    store.cache.put_recorded(pending)
    return leased


@retry_on_conflict
def put_off(store: OrdersStore, delays: Mapping[str, timedelta]) -> None:
    """Make pending orders due after these delays, by order id."""
    with store.transaction() as tx:
        for order_id, delay in sorted(delays.items()):
            tx.put_off(order_id, delay)
