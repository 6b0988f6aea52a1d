"""Who the customers are and which orders there are, as far as this process knows."""

from __future__ import annotations

from collections.abc import Iterable

from services.orders.domain import Customer

MOST = 10_000


class Memory:
    """Customers as this process has read them last. Who writes by it does so on condition that they still
    are so: it may be wrong, and saves a question. And orders that it has written, some of the last ones."""

    def __init__(self) -> None:
        self._customers: dict[str, Customer] = {}
        self._written: set[str] = set()
        self._written_before: set[str] = set()

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

    def note_written(self, order_ids: Iterable[str]) -> None:
        """After the commit, and not before."""
        if len(self._written) > MOST:
            self._written, self._written_before = set(), self._written
        self._written.update(order_ids)

    def not_written(self, order_ids: Iterable[str]) -> set[str]:
        """Those of which this process does not remember that it has written them."""
        return set(order_ids) - self._written - self._written_before
