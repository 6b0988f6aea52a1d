"""The customers and orders that this process knows, so that placing an order reads nothing in most cases."""

from __future__ import annotations

from collections.abc import Iterable

from services.orders.domain import Customer

MAX_ENTRIES = 10_000


class OrdersCache:
    """The customers as last read, and the ids of orders that are recorded.

    Writes based on a customer are conditional, so a stale entry costs a retry, never a wrong order. Recorded
    orders may be missing here, such as old orders and orders of other instances.
    """

    def __init__(self) -> None:
        self._customers: dict[str, Customer] = {}
        self._recorded: set[str] = set()
        self._recorded_before: set[str] = set()

    def customers(self, user_ids: Iterable[str]) -> dict[str, Customer]:
        """Return the customers among `user_ids` that are cached, by id."""
        return {user_id: self._customers[user_id] for user_id in user_ids if user_id in self._customers}

    def put_customers(self, customers: Iterable[Customer]) -> None:
        if len(self._customers) > MAX_ENTRIES:
            self._customers.clear()
        self._customers.update((customer.id, customer) for customer in customers)

    def drop_customers(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            self._customers.pop(user_id, None)

    def put_recorded(self, order_ids: Iterable[str]) -> None:
        """Add orders that are committed. The oldest ids are forgotten."""
        if len(self._recorded) > MAX_ENTRIES:
            self._recorded, self._recorded_before = set(), self._recorded
        self._recorded.update(order_ids)

    def without_recorded(self, order_ids: Iterable[str]) -> set[str]:
        """Return the order ids that are not known to be recorded."""
        return set(order_ids) - self._recorded - self._recorded_before
