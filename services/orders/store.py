"""Reads and writes of the tables of orders. Rows are locked in id order, so batches cannot deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

import sqlalchemy as sa

from nameko_mesh.outbox import Handoff, PublishingStore, PublishingTransaction
from nameko_mesh.sql import (
    StaleWrite,
    Statement,
    as_row,
    document,
    insert_ignoring_conflicts,
    load_sql,
    select_among,
)
from services.orders import domain
from services.orders.cache import OrdersCache
from services.orders.domain import Customer, Line, Order, Request
from services.orders.tables import customers, orders

_CHANGING = ("status", "lines", "currency", "reason", "version", "confirmed_at")
_FIELDS = tuple(Order.__dataclass_fields__)
_columns = tuple(orders.c[name] for name in _FIELDS)


@lru_cache
def _add_pending(lease: timedelta) -> str:
    return load_sql(
        __package__,
        "add_pending.sql",
        pending=domain.PENDING,
        first_version=domain.FIRST_VERSION,
        lease_seconds=lease.total_seconds(),
    )


_ADD_CONFIRMED = load_sql(__package__, "add_confirmed.sql", confirmed=domain.CONFIRMED)
_ADDED_ORDERS = "json_agg(json_build_array(id, user_name, user_email, created_at))"


class OrdersTransaction(PublishingTransaction):
    _added: Mapping[str, Order] | None = None

    def order(self, order_id: str, *, lock: bool = False) -> Order:
        """Read an order. Raises UnknownOrder."""
        orders_by_id = self.orders([order_id], lock=lock)
        if order_id not in orders_by_id:
            raise domain.UnknownOrder(f"there is no order {order_id}", "order_id")
        return orders_by_id[order_id]

    def orders(self, order_ids: Iterable[str], *, lock: bool = False) -> dict[str, Order]:
        """Read the orders that exist, by id."""
        rows = select_among(self.connection, _columns, orders.c.id, order_ids, lock=lock)
        return {order.id: order for order in map(_order, rows)}

    def recorded(self, order_ids: Iterable[str]) -> set[str]:
        """Return the ids of the orders that exist."""
        rows = select_among(self.connection, (orders.c.id,), orders.c.id, order_ids)
        return {order_id for (order_id,) in rows}

    def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
        """Read up to `limit` orders of a user, newest first, older than `before` (created_at, id)."""
        query = sa.select(*_columns).where(orders.c.user_id == user_id)
        if before:
            query = query.where(sa.tuple_(orders.c.created_at, orders.c.id) < sa.tuple_(*_literals(before)))
        query = query.order_by(orders.c.created_at.desc(), orders.c.id.desc()).limit(limit)
        return [_order(row) for row in self.connection.execute(query)]

    def add_pending(
        self, requests: Sequence[Request], lease: timedelta, *, all_or_none: bool = False
    ) -> None:
        """Write pending orders, leased to the caller. `added` has them once the writes are sent.

        An order that exists, or whose customer is unknown, is left out. With `all_or_none` the writes raise
        StaleWrite in this case.
        """
        by_id = {request.order_id: request for request in requests}

        def on_result(rows: Iterable[tuple[str, str, str, str]] | None) -> None:
            self._added = {
                order_id: domain.pending(by_id[order_id], name, email, datetime.fromisoformat(created_at))
                for order_id, name, email, created_at in rows or ()
            }

        execute = partial(self._add_pending_each, requests, lease, all_or_none)
        self.writes.add(
            Statement(
                _add_pending(lease),
                (document(requests),),
                execute,
                _ADDED_ORDERS,
                on_result,
                len(requests) if all_or_none else None,
            )
        )

    @property
    def added(self) -> Mapping[str, Order]:
        """The orders that `add_pending` has written, by id. Raises RuntimeError if it is too early."""
        if self._added is None:
            raise RuntimeError("the pending orders are not written yet: flush or commit first")
        return self._added

    def _add_pending_each(
        self, requests: Sequence[Request], lease: timedelta, all_or_none: bool, _: sa.Connection
    ) -> list[tuple[str, str, str, str]]:
        copies = self.customers(request.user_id for request in requests)
        insert = insert_ignoring_conflicts(self.connection, orders)
        now, added = self.now(), []
        for request in requests:
            if customer := copies.get(request.user_id):
                order = domain.pending(request, customer.name, customer.email, now)
                row = {**as_row(order), "attempts": 0, "due_at": now + lease}
                if self.connection.execute(insert, row).rowcount:
                    added.append((order.id, customer.name, customer.email, now.isoformat()))
        if all_or_none and len(added) < len(requests):
            raise StaleWrite
        return added

    def add_confirmed(self, confirmed: Sequence[Order], customers: Mapping[str, Customer]) -> None:
        """Write confirmed orders at the commit.

        It raises StaleWrite if an order exists, or if a customer differs from the given copy.
        """
        rows = [
            {**as_row(order), "customer_version": customers[order.user_id].version} for order in confirmed
        ]
        execute = partial(self._add_confirmed_each, rows)
        self.writes.add(Statement(_ADD_CONFIRMED, (document(rows),), execute, expected_rows=len(rows)))

    def _add_confirmed_each(self, rows: Sequence[dict[str, Any]], _: sa.Connection) -> None:
        copies = self.customers(row["user_id"] for row in rows)
        insert = insert_ignoring_conflicts(self.connection, orders)
        for row in rows:
            customer = copies.get(row["user_id"])
            is_as_given = customer is not None and customer.version == row["customer_version"]
            new = {name: row[name] for name in _FIELDS} | {"attempts": 0}
            if not is_as_given or not self.connection.execute(insert, new).rowcount:
                raise StaleWrite

    def save(self, changed: Iterable[Order]) -> None:
        """Write orders after one change of state, at the commit.

        It raises StaleWrite if an order has changed in another way since it was read.
        """
        rows = [{**_row(order, "id", *_CHANGING), "expected": order.version - 1} for order in changed]
        self.writes.update(orders, rows, _CHANGING, if_still="version")

    def lease_due(self, limit: int, lease: timedelta) -> list[tuple[Order, int]]:
        """Lease pending orders whose lease is over. Returns them with the attempts made so far."""
        now = self.now()
        due = (
            sa.select(orders.c.id)
            .where(orders.c.status == domain.PENDING, orders.c.due_at <= now)
            .order_by(orders.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = self.connection.execute(
            orders.update()
            .where(orders.c.id.in_(due))
            .values(due_at=now + lease, attempts=orders.c.attempts + 1)
            .returning(*_columns, orders.c.attempts)
        )
        return [(_order(row), row.attempts) for row in rows]

    def pending_ids(self, limit: int) -> Sequence[str]:
        """Return the ids of the pending orders that are due first."""
        is_pending = orders.c.status == domain.PENDING
        return self.connection.scalars(
            sa.select(orders.c.id).where(is_pending).order_by(orders.c.due_at).limit(limit)
        ).all()

    def lease(self, order_ids: Sequence[str], lease: timedelta) -> set[str]:
        """Lease the pending orders among `order_ids` whose lease is over. Returns their ids."""
        now = self.now()
        free = orders.c.id.in_(order_ids) & (orders.c.status == domain.PENDING) & (orders.c.due_at <= now)
        taken = orders.update().where(free).values(due_at=now + lease).returning(orders.c.id)
        return set(self.connection.scalars(taken))

    def put_off(self, order_id: str, delay: timedelta) -> None:
        """Make a pending order due after the delay."""
        is_pending = (orders.c.id == order_id) & (orders.c.status == domain.PENDING)
        self.connection.execute(orders.update().where(is_pending).values(due_at=self.now() + delay))

    def customers(self, user_ids: Iterable[str]) -> dict[str, Customer]:
        """Read the customers who are known here, by id."""
        rows = select_among(self.connection, tuple(customers.c), customers.c.id, user_ids)
        copies = (Customer(**dict(zip(customers.c.keys(), row, strict=True))) for row in rows)
        return {customer.id: customer for customer in copies}

    def learn(self, customer: Customer) -> None:
        """Keep a copy of a customer, unless the kept copy is as new."""
        insert = insert_ignoring_conflicts(self.connection, customers)
        self.connection.execute(insert, as_row(customer))
        older = (customers.c.id == customer.id) & (customers.c.version < customer.version)
        self.connection.execute(customers.update().where(older).values(**as_row(customer)))


class OrdersStore(PublishingStore[OrdersTransaction]):
    transaction_cls = OrdersTransaction

    def __init__(self, engine: sa.Engine, handoff: Handoff | None = None) -> None:
        super().__init__(engine, handoff)
        self.cache = OrdersCache()


def _literals(before: tuple[datetime, str]) -> tuple[Any, Any]:
    created_at, order_id = before
    return sa.literal(created_at, orders.c.created_at.type), sa.literal(order_id)


def _row(order: Order, *names: str) -> dict[str, Any]:
    return {name: getattr(order, name) for name in names}


def _order(row: Sequence[Any]) -> Order:
    fields = dict(zip(_FIELDS, row, strict=False))  # `lease_due` reads another column behind them
    return Order(**{**fields, "lines": tuple(Line(**line) for line in fields["lines"])})
