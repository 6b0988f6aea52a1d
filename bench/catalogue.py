"""The products, users and purchases of the benchmark, the same for every stack and every run."""

from __future__ import annotations

import random
from collections.abc import Sequence

HOT = "bench-hot"
PRODUCTS = (*(f"bench-{number:04}" for number in range(500)), HOT)
USERS = tuple(f"user-{number:02}" for number in range(20))
STOCK = 1_000_000
PRICE_MINOR = 1999

PICKS = 4000
HOT_SHARE = 0.1
_SEED = 4


def picks(users: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of user and product in a pseudo-random order. A tenth of them buy the hot product."""
    rng = random.Random(_SEED)
    return [
        (rng.choice(users), HOT if rng.random() < HOT_SHARE else rng.choice(PRODUCTS[:-1]))
        for _ in range(PICKS)
    ]
