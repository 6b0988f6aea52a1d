"""Reads and writes of the orders' tables. Rows are locked in id order, so batches can't deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

import sqlalchemy as sa

from nameko_mesh.outbox.handoff import Handoff
from nameko_mesh.sql.reads import select_among
from nameko_mesh.sql.tables import as_row
from nameko_mesh.sql.transaction import Store, Transaction, insert_ignoring_conflicts
from nameko_mesh.sql.write_batch import StaleWrite, Statement, document
from services.orders import domain
from services.orders.cache import Memory
from services.orders.domain import Customer, Line, Order, Request
from services.orders.tables import customers, orders

_CHANGING = ("status", "lines", "currency", "reason", "version", "confirmed_at")
_columns = tuple(orders.c[name] for name in Order.__dataclass_fields__)


@lru_cache
def _add(lease: timedelta) -> str:
    """In the order of their ids, so that two batches of the same orders wait for each other in one direction.
    The LIMIT has each customer looked up by id, whatever PostgreSQL believes of the size of the table."""
    return f"""
        INSERT INTO orders (id, user_id, user_name, user_email, fingerprint, lines, status, version,
                            created_at, attempts, due_at)
        SELECT new.order_id, new.user_id, customer.name, customer.email, new.fingerprint, new.lines,
               '{domain.PENDING}', {domain.FIRST_VERSION}, now(), 0,
               clock_timestamp() + interval '{lease.total_seconds()} s'
        FROM json_to_recordset({{0}}) AS new(order_id text, user_id text, fingerprint text, lines json),
        LATERAL (SELECT name, email FROM customers WHERE customers.id = new.user_id LIMIT 1) AS customer
        ORDER BY new.order_id
        ON CONFLICT DO NOTHING
        RETURNING id, user_name, user_email, created_at
    """  # noqa: S608 - constants of our own


_ADD_CONFIRMED = f"""
    INSERT INTO orders (id, user_id, user_name, user_email, fingerprint, lines, currency, status, version,
                        created_at, confirmed_at, attempts)
    SELECT id, user_id, user_name, user_email, fingerprint, lines, currency, '{domain.CONFIRMED}', version,
           created_at, confirmed_at, 0
    FROM json_to_recordset({{0}}) AS new(id text, user_id text, user_name text, user_email text,
                                         fingerprint text, lines json, currency text, version int,
                                         created_at timestamptz, confirmed_at timestamptz,
                                         customer_version int)
    WHERE (SELECT version FROM customers WHERE customers.id = new.user_id) = new.customer_version
    ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING 1
"""  # noqa: S608 - constants of our own
_ADDED = "json_agg(json_build_array(id, user_name, user_email, created_at))"


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
        return {order.id: order for order in map(_order, rows)}

    def known(self, order_ids: Iterable[str]) -> set[str]:
        """The ids of those that exist."""
        rows = select_among(self.connection, (orders.c.id,), orders.c.id, order_ids)
        return {order_id for (order_id,) in rows}

    def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
        """Up to `limit` orders of a user, the newest first, older than the (created_at, id) given."""
        query = sa.select(*_columns).where(orders.c.user_id == user_id)
        if before:
            query = query.where(sa.tuple_(orders.c.created_at, orders.c.id) < sa.tuple_(*_literals(before)))
        query = query.order_by(orders.c.created_at.desc(), orders.c.id.desc()).limit(limit)
        return [_order(row) for row in self.connection.execute(query)]

    def add(
        self, requests: Sequence[Request], lease: timedelta, *, all_or_none: bool = False
    ) -> Mapping[str, Order]:
        """Write pending orders, whose saga is the caller's for so long.

        Returns what has them by id once they have been sent: those that are new, and of users of whom there
        is a copy; of the others nothing is written. With `all_or_none` sending them raises Stale for those.
        """
        added: dict[str, Order] = {}
        wanted = {request.order_id: request for request in requests}

        def on_result(told: Iterable[tuple[str, str, str, str]] | None) -> None:
            for order_id, name, email, moment in told or ():
                created_at = datetime.fromisoformat(moment)
                added[order_id] = domain.pending(wanted[order_id], name, email, created_at)

        execute = partial(self._add_each, requests, lease, all_or_none)
        expected_rows = len(requests) if all_or_none else None
        self.writes.add(
            Statement(_add(lease), (document(requests),), execute, _ADDED, on_result, expected_rows)
        )
        return added

    def _add_each(
        self, requests: Sequence[Request], lease: timedelta, all_or_none: bool, _: sa.Connection
    ) -> list[tuple[str, str, str, str]]:
        known = self.customers(request.user_id for request in requests)
        insert = insert_ignoring_conflicts(self.connection, orders)
        now, added = self.now(), []
        for request in requests:
            if customer := known.get(request.user_id):
                order = domain.pending(request, customer.name, customer.email, now)
                row = {**_row(order, *Order.__dataclass_fields__), "attempts": 0, "due_at": now + lease}
                if self.connection.execute(insert, row).rowcount:
                    added.append((order.id, customer.name, customer.email, now.isoformat()))
        if all_or_none and len(added) < len(requests):
            raise StaleWrite
        return added

    def add_confirmed(self, confirmed: Sequence[Order], customers: Mapping[str, Customer]) -> None:
        """Write orders that have been confirmed before they were written at all. Raises StaleWrite at the end
        when one is not new, or a customer has changed."""
        rows = [{**vars(order), "customer_version": customers[order.user_id].version} for order in confirmed]
        execute = partial(self._add_confirmed_each, rows)
        self.writes.add(Statement(_ADD_CONFIRMED, (document(rows),), execute, expected_rows=len(rows)))

    def _add_confirmed_each(self, rows: Sequence[dict[str, Any]], _: sa.Connection) -> None:
        known = self.customers(row["user_id"] for row in rows)
        insert = insert_ignoring_conflicts(self.connection, orders)
        for row in rows:
            customer = known.get(row["user_id"])
            is_as_read = customer is not None and customer.version == row["customer_version"]
            new = {name: row[name] for name in Order.__dataclass_fields__} | {"attempts": 0}
            if not is_as_read or not self.connection.execute(insert, new).rowcount:
                raise StaleWrite

    def save(self, changed: Iterable[Order]) -> None:
        """Orders that are one step further than when they were read. Raises StaleWrite at the end when one
        has gone another way meanwhile."""
        rows = [{**_row(order, "id", *_CHANGING), "expected": order.version - 1} for order in changed]
        self.writes.update(orders, rows, _CHANGING, if_still="version")

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

    def pending_ids(self, limit: int) -> Sequence[str]:
        """The ids of the pending orders that are due first."""
        is_pending = orders.c.status == domain.PENDING
        return self.connection.scalars(
            sa.select(orders.c.id).where(is_pending).order_by(orders.c.due_at).limit(limit)
        ).all()

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
        found = (Customer(**dict(zip(customers.c.keys(), row, strict=True))) for row in rows)
        return {customer.id: customer for customer in found}

    def learn(self, customer: Customer) -> None:
        """Keep a copy of a customer, unless the one kept is as new."""
        insert = insert_ignoring_conflicts(self.connection, customers)
        self.connection.execute(insert, as_row(customer))
        older = (customers.c.id == customer.id) & (customers.c.version < customer.version)
        self.connection.execute(customers.update().where(older).values(**as_row(customer)))


class OrdersStore(Store[OrdersTransaction]):
    transaction_cls = OrdersTransaction

    def __init__(self, engine: sa.Engine, handoff: Handoff | None = None) -> None:
        super().__init__(engine, handoff)
        self.memory = Memory()


def _literals(before: tuple[datetime, str]) -> tuple[Any, Any]:
    created_at, order_id = before
    return sa.literal(created_at, orders.c.created_at.type), sa.literal(order_id)


def _row(order: Order, *names: str) -> dict[str, Any]:
    return {name: getattr(order, name) for name in names}


def _order(row: Sequence[Any]) -> Order:
    fields = dict(zip(Order.__dataclass_fields__, row, strict=False))  # `lease_due` reads a column more
    return Order(**{**fields, "lines": tuple(Line(**line) for line in fields["lines"])})
