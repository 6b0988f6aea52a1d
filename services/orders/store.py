"""Reads and writes of the orders' tables. Rows are locked in id order, so batches can't deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mesh.database import Store, Transaction, insert_ignoring_conflicts
from mesh.sets import select_among
from mesh.tables import as_row
from services.orders import domain
from services.orders.domain import Customer, Line, Order
from services.orders.tables import customers, orders

_CHANGING = ("status", "lines", "currency", "reason", "version", "confirmed_at")
_columns = tuple(orders.c[name] for name in Order.__dataclass_fields__)


class OrdersTransaction(Transaction):
    def order(self, order_id: str, *, lock: bool = False) -> Order:
        """Raises UnknownOrder."""
        found = self.orders([order_id], lock=lock)
        if order_id not in found:
            raise domain.UnknownOrder(f"there is no order {order_id}", "order_id")
        return found[order_id]

    def orders(self, order_ids: Iterable[str], *, lock: bool = False) -> dict[str, Order]:
        """Those that exist, by id."""
        rows = select_among(self.connection, _columns, orders.c.id, order_ids, lock=lock)
        return {row.id: _order(row) for row in rows}

    def locked(self, known: Mapping[str, Order]) -> dict[str, Order]:
        """The orders as they are now, locked. Those that have not changed need not be read again."""
        rows = select_among(self.connection, (orders.c.id, orders.c.version), orders.c.id, known, lock=True)
        changed = [row.id for row in rows if row.version != known[row.id].version]
        return {row.id: known[row.id] for row in rows} | self.orders(changed)

    def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
        """Up to `limit` orders of a user, the newest first, older than the (created_at, id) given."""
        query = sa.select(*_columns).where(orders.c.user_id == user_id)
        if before:
            query = query.where(sa.tuple_(orders.c.created_at, orders.c.id) < sa.tuple_(*_literals(before)))
        query = query.order_by(orders.c.created_at.desc(), orders.c.id.desc()).limit(limit)
        return [_order(row) for row in self.connection.execute(query)]

    def add(self, new: Iterable[Order], lease: timedelta) -> None:
        """Write pending orders, whose saga is the caller's for so long.

        IntegrityError at the end when somebody else has just written one of them.
        """
        rows = [{**_row(order), "attempts": 0} for order in sorted(new, key=lambda one: one.id)]
        self.writes.insert(orders, rows, due={"due_at": lease})

    def save(self, changed: Sequence[Order]) -> None:
        self.writes.update(orders, [_row(order) for order in changed], _CHANGING)

    def lease_due(self, limit: int, lease: timedelta) -> list[tuple[Order, int]]:
        """Pending orders that nobody works on, now leased to the caller, with the attempts made so far."""
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

    def lease(self, order_ids: Sequence[str], lease: timedelta) -> set[str]:
        """Of these pending orders, take those that nobody works on. Returns their ids."""
        now = self.now()
        free = orders.c.id.in_(order_ids) & (orders.c.status == domain.PENDING) & (orders.c.due_at <= now)
        taken = orders.update().where(free).values(due_at=now + lease).returning(orders.c.id)
        return set(self.connection.scalars(taken))

    def put_off(self, order_id: str, delay: timedelta) -> None:
        """Try again after the delay, unless the order has been settled meanwhile."""
        still = (orders.c.id == order_id) & (orders.c.status == domain.PENDING)
        self.connection.execute(orders.update().where(still).values(due_at=self.now() + delay))

    def customers(self, user_ids: Iterable[str]) -> dict[str, Customer]:
        rows = select_among(self.connection, tuple(customers.c), customers.c.id, user_ids)
        return {row.id: Customer(**row._mapping) for row in rows}

    def learn(self, customer: Customer) -> None:
        """Keep a copy of a customer, unless the one kept is as new."""
        insert = insert_ignoring_conflicts(self.connection, customers)
        self.connection.execute(insert, as_row(customer))
        older = (customers.c.id == customer.id) & (customers.c.version < customer.version)
        self.connection.execute(customers.update().where(older).values(**as_row(customer)))


class OrdersStore(Store[OrdersTransaction]):
    transaction_cls = OrdersTransaction


def _literals(before: tuple[datetime, str]) -> tuple[Any, Any]:
    created_at, order_id = before
    return sa.literal(created_at, orders.c.created_at.type), sa.literal(order_id)


def _row(order: Order) -> dict[str, Any]:
    return as_row(order) | {"lines": [as_row(line) for line in order.lines]}


def _order(row: sa.Row[Any]) -> Order:
    fields = dict(zip(Order.__dataclass_fields__, row, strict=False))  # `lease_due` reads a column more
    return Order(**fields | {"lines": tuple(Line(**line) for line in row.lines)})
