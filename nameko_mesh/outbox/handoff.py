"""What has just been committed, on its way to the relay of the same process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from nameko_mesh.outbox.insertion import CLAIM, OutboxRow

MOST_IN_MEMORY = 1000
"""Bundles that wait for the relay of their process; those after them wait in the table alone."""

MANY = 500
"""Events that fill a few messages: nobody should wait for more."""


class Handoff:
    """Hands committed events to the relay of this process, and wakes it."""

    def __init__(self) -> None:
        self.claimant: str | None = None
        """Who claims events as they are written; None while nobody here relays, or the broker is away."""
        self._bundles: deque[tuple[float, OutboxRow]] = deque()
        self._rung = threading.Event()
        self._left_behind = False
        self._doubted = False

    @property
    def has_room(self) -> bool:
        return len(self._bundles) < MOST_IN_MEMORY

    @property
    def has_many(self) -> bool:
        """Whether there are as many as a relay takes at once."""
        return sum(bundle.size for _, bundle in self._bundles) >= MANY

    def offer(self, claimed: Sequence[OutboxRow], claimant: str | None, *, others: bool) -> None:
        """`others`: there are more, which the relay has to look for."""
        if claimant == self.claimant:
            now = time.monotonic()
            self._bundles.extend((now, bundle) for bundle in claimed)
        self._left_behind = self._left_behind or others
        self._rung.set()

    def outcome_unknown(self) -> None:
        """Nobody knows whether events were committed in this name: nothing more may be claimed in it,
        for that would overtake them."""
        self.claimant = None
        self._doubted = True
        self._rung.set()

    def take(self, most: int) -> list[OutboxRow]:
        """The oldest of them, until there are `most` events. Raises TimeoutError when they have waited so
        long that their claim may end before they are published, or when their name is in doubt: they are
        to change hands."""
        doubted, self._doubted = self._doubted, False
        if doubted:
            raise TimeoutError("nobody knows whether events were committed")
        if self._bundles and self._bundles[0][0] < time.monotonic() - CLAIM.total_seconds() / 2:
            raise TimeoutError("events have waited too long for their relay")
        taken: list[OutboxRow] = []
        while self._bundles and most > 0:
            taken.append(self._bundles.popleft()[1])
            most -= taken[-1].size
        return sorted(taken)  # two threads may have told of their commits in another order

    def rename_claimant(self, claimant: str | None) -> list[OutboxRow]:
        """Those that were claimed in another name are forgotten here, and returned."""
        if claimant == self.claimant:
            return []
        self.claimant = claimant
        forgotten = [bundle for _, bundle in self._bundles]
        self._bundles.clear()
        return forgotten

    def some_left_behind(self) -> bool:
        """Whether there has been anything to look for since this was asked last."""
        left, self._left_behind = self._left_behind, False
        return left

    def wake(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Until there is news, or was since the last wait; no longer than `seconds`."""
        self._rung.wait(seconds)
        self._rung.clear()
