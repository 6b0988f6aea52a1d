"""What is bought by whom: the same for every stack, and for every run."""

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
    """Pairs of user and product, in an order that looks random; a tenth of them want the hot product."""
    chance = random.Random(_SEED)
    return [
        (chance.choice(users), HOT if chance.random() < HOT_SHARE else chance.choice(PRODUCTS[:-1]))
        for _ in range(PICKS)
    ]
