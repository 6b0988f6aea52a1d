"""Customers who order all the time that something else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.customers import PATIENCE_SECONDS
from tests.chaos.stage import Stage, all_of


@dataclass(frozen=True, slots=True)
class Load:
    """`at_least` so many orders in all; `pause` is the longest of a client between two, in seconds.

    A share of the confirmed orders is cancelled again.
    """

    products: Sequence[str]
    clients: int
    at_least: int
    pause: float = 1.0
    cancelled: float = 0.0
    patience: float = PATIENCE_SECONDS


class Progress:
    """How far something has come, for those who wait for it."""

    def __init__(self) -> None:
        self._done = 0
        self._changed = asyncio.Condition()

    async def advance(self) -> None:
        async with self._changed:
            self._done += 1
            self._changed.notify_all()

    async def reaches(self, quota: float) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._done >= quota)


async def while_ordering(stage: Stage, meanwhile: Coroutine[Any, Any, None], load: Load) -> None:
    """Returns when `meanwhile` has ended, the orders are placed, and each of them has an answer."""
    is_over = asyncio.Event()
    placed = 0

    async def act() -> None:
        try:
            await meanwhile
            await stage.watch_the_pending()  # here, and not when the last customer has gone
        finally:
            is_over.set()

    async def client() -> None:
        nonlocal placed
        while not is_over.is_set() or placed < load.at_least:
            placed += 1
            await _order(stage, load)
            await asyncio.sleep(stage.rng.uniform(0, load.pause))

    await all_of([act(), *(client() for _ in range(load.clients))])


async def _order(stage: Stage, load: Load) -> None:
    shop, rng = stage.shop, stage.rng
    chosen = rng.sample(load.products, min(len(load.products), rng.choice((1, 1, 2))))
    items = [(product, rng.choice((1, 1, 2))) for product in chosen]
    account = rng.choice(shop.cast.customers)
    attempt = await shop.order(items, account, patience=load.patience)
    if attempt.status == 201 and rng.random() < load.cancelled:
        await shop.cancel(attempt.order_id, account)


async def rename(stage: Stage) -> None:
    """A customer changes their name: the event that users publishes and orders hears."""
    account = stage.rng.choice(stage.shop.cast.customers)
    name = f"Customer {stage.rng.getrandbits(32):x}"
    await stage.shop.insist("PATCH", "/users/me", {"name": name}, account)
