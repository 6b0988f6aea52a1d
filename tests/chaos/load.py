"""Load: customers that order while the faults of a row happen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.customers import PATIENCE_SECONDS
from tests.chaos.stage import Stage, all_of


@dataclass(frozen=True, slots=True)
class Load:
    """Clients that place at least `at_least` orders, each client with pauses of up to `pause` seconds.

    `cancelled` is the share of the confirmed orders that are cancelled afterwards.
    """

    products: Sequence[str]
    clients: int
    at_least: int
    pause: float = 1.0
    cancelled: float = 0.0
    patience: float = PATIENCE_SECONDS


class Progress:
    """A counter that tasks can wait for."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Condition()

    async def advance(self) -> None:
        async with self._changed:
            self._count += 1
            self._changed.notify_all()

    async def reaches(self, quota: float) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._count >= quota)


async def while_ordering(stage: Stage, meanwhile: Coroutine[Any, Any, None], load: Load) -> None:
    """Place orders until `meanwhile` has ended, and at least `load.at_least` of them."""
    is_over = asyncio.Event()
    placed = 0

    async def act() -> None:
        try:
            await meanwhile
            await stage.watch_the_pending()  # right after the last fault, not after the last order
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
    """Change a customer's name. Users publishes the event, and orders updates its copy."""
    account = stage.rng.choice(stage.shop.cast.customers)
    name = f"Customer {stage.rng.getrandbits(32):x}"
    await stage.shop.insist("PATCH", "/users/me", {"name": name}, account)
