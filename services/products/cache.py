"""What products are like, as far as this process knows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager

from nameko_mesh.fair_lock import FairLock
from services.products.domain import Product

MOST = 10_000
WARY_SECONDS = 1.0
LONGEST_TURN = 5.0


class Memory:
    """Products as this process has read or written them last, while nobody else seems to change them.

    Who decides by it writes on condition that they still are so: it may be wrong, and saves a question.
    """

    def __init__(self) -> None:
        self._products: dict[str, Product] = {}
        self._wary_until = 0.0
        self._lock = FairLock("the stock of products")

    def turn(self) -> AbstractContextManager[None]:
        """To hold from the decision until it is remembered: who decides meanwhile would be wrong for sure."""
        return self._lock.held(LONGEST_TURN)

    @property
    def is_good(self) -> bool:
        """False when it was wrong just now: others change products, too."""
        return time.monotonic() >= self._wary_until

    def recall(self, product_ids: Iterable[str]) -> dict[str, Product]:
        """Those that are known, by id."""
        return {one: self._products[one] for one in product_ids if one in self._products}

    def remember(self, products: Iterable[Product]) -> None:
        if len(self._products) > MOST:
            self._products.clear()
        self._products.update((product.id, product) for product in products)

    def was_wrong(self) -> None:
        self._products.clear()
        self._wary_until = time.monotonic() + WARY_SECONDS
