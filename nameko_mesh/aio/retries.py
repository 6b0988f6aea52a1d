"""Retries repeatable calls, with jitter, and only while most calls succeed.

Retries are a fixed share of all calls, so they cannot overload a slow service. gRPC's retry throttle
(gRFC A6) and Finagle's RetryBudget work in the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nameko_mesh.backoff import back_off

Result = TypeVar("Result")

MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.02, 0.25


class RetryBudget:
    """Allows a retry for each `1 / share` calls, and `reserve` retries before the first call."""

    def __init__(self, share: float = 0.1, reserve: float = 10.0) -> None:
        self.spent = 0
        """Retries, in total."""
        self._share = share
        self._max = self._left = reserve

    def earn(self) -> None:
        """Add the share of one call."""
        self._left = min(self._max, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry from the budget. Return False if none is left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        self.spent += 1
        return True


class Retries:
    """Repeats an operation after a transient error, up to MAX_ATTEMPTS attempts in all.

    Use it for operations that may be executed twice. `without_wait` is for an operation that tries another
    instance each time.
    """

    def __init__(
        self,
        budget: RetryBudget,
        is_transient: Callable[[BaseException], bool],
        *,
        without_wait: bool = False,
    ) -> None:
        self._budget = budget
        self._is_transient = is_transient
        self._without_wait = without_wait

    async def __call__(self, attempt: Callable[[], Awaitable[Result]], deadline: float) -> Result:
        """Return the first result, or raise the last error.

        No attempt begins after `deadline`, in Unix seconds.
        """
        self._budget.earn()
        for attempts in range(1, MAX_ATTEMPTS):
            try:
                return await attempt()
            except Exception as error:
                if not self._is_transient(error) or time.time() >= deadline or not self._budget.spend():
                    raise
            if not self._without_wait:
                await asyncio.sleep(back_off(attempts - 1, FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS))
        return await attempt()
