"""The products as this process knows them, so that most reservations read nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager

from nameko_mesh.fair_lock import FairLock
from services.products.domain import Product

MAX_PRODUCTS = 10_000
DISTRUST_SECONDS = 1.0
LOCK_TIMEOUT_SECONDS = 5.0


class ProductCache:
    """The products as this process last read or wrote them.

    Writes based on it are conditional, so a stale entry costs a retry, never a wrong reservation.
    """

    def __init__(self) -> None:
        self._products: dict[str, Product] = {}
        self._distrusted_until = 0.0
        self._lock = FairLock("the stock of products")

    def locked(self) -> AbstractContextManager[None]:
        """Hold the cache from a decision until the changed products are put back.

        Without the lock a second decision could use products that the first decision is about to change.
        """
        return self._lock.held(LOCK_TIMEOUT_SECONDS)

    @property
    def is_trusted(self) -> bool:
        """False for a moment after a stale entry, because another instance is changing the products too."""
        return time.monotonic() >= self._distrusted_until

    def get(self, product_ids: Iterable[str]) -> dict[str, Product]:
        """Return the products among `product_ids` that are cached, by id."""
        return {
            product_id: self._products[product_id]
            for product_id in product_ids
            if product_id in self._products
        }

    def put(self, products: Iterable[Product]) -> None:
        if len(self._products) > MAX_PRODUCTS:
            self._products.clear()
        self._products.update((product.id, product) for product in products)

    def distrust(self) -> None:
        """Drop every product after a stale entry, and use none for a moment."""
        self._products.clear()
        self._distrusted_until = time.monotonic() + DISTRUST_SECONDS
