"""Who the customers are and which orders there are, as far as this process knows."""

from __future__ import annotations

from collections.abc import Iterable

from services.orders.domain import Customer

MOST = 10_000


class Memory:
    """Customers as this process has read them last. Who writes by it does so on condition that they still
    are so: it may be wrong, and saves a question. And of which orders there are rows, some of the last."""

    def __init__(self) -> None:
        self._customers: dict[str, Customer] = {}
        self._rows: set[str] = set()
        self._older_rows: set[str] = set()

    def recall(self, user_ids: Iterable[str]) -> dict[str, Customer]:
        """Those that are known, by id."""
        return {one: self._customers[one] for one in user_ids if one in self._customers}

    def remember(self, customers: Iterable[Customer]) -> None:
        if len(self._customers) > MOST:
            self._customers.clear()
        self._customers.update((customer.id, customer) for customer in customers)

    def forget(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            self._customers.pop(user_id, None)

    def note_rows(self, order_ids: Iterable[str]) -> None:
        """After the commit, and not before."""
        if len(self._rows) > MOST:
            self._rows, self._older_rows = set(), self._rows
        self._rows.update(order_ids)

    def without_row(self, order_ids: Iterable[str]) -> set[str]:
        """Those of which this process knows no row."""
        return set(order_ids) - self._rows - self._older_rows
