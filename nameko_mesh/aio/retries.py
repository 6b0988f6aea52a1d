"""Trying again what is safe to: with jitter, and only as long as most calls go well.

Retries that are a fixed share of the calls can't turn a slow service into a dead one: gRPC's own
throttle (gRFC A6) and Finagle's RetryBudget work like that.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, wait_none, wait_random_exponential

Answer = TypeVar("Answer")

MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.02, 0.25


class RetryBudget:
    """A tenth of the calls, and a small reserve for when there were none yet."""

    def __init__(self, share: float = 0.1, reserve: float = 10.0) -> None:
        self.spent = 0
        """Retries, ever."""
        self._share = share
        self._most = self._left = reserve

    def earn(self) -> None:
        """A call begins."""
        self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether one more may be tried again."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        self.spent += 1
        return True


class Retries:
    """Asks again, `MAX_ATTEMPTS` times in all at most, where `is_transient` says so of an error.

    For what may be done twice, and nothing else. `at_once` leaves out the wait in between, for who asks
    somebody else the next time.
    """

    def __init__(
        self, budget: RetryBudget, is_transient: Callable[[BaseException], bool], *, at_once: bool = False
    ) -> None:
        self._budget = budget
        self._is_transient = is_transient
        self._wait = wait_none() if at_once else wait_random_exponential(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)

    async def __call__(self, ask: Callable[[], Awaitable[Answer]], deadline: float) -> Answer:
        """The first answer; raises the last error. After `deadline` (Unix seconds) nothing begins."""
        self._budget.earn()
        try:
            return await ask()  # what goes well, as most does, is spared tenacity's 70 µs
        except Exception as error:
            if not self._is_transient(error):
                raise
            seen = [error]

        async def ask_on() -> Answer:
            if seen:
                raise seen.pop()
            return await ask()

        def is_over(state: RetryCallState) -> bool:
            return state.attempt_number >= MAX_ATTEMPTS or time.time() >= deadline or not self._budget.spend()

        retrying = AsyncRetrying(
            retry=self._failed_for_now,
            wait=self._wait,
            stop=is_over,
            reraise=True,
        )
        return await retrying(ask_on)

    def _failed_for_now(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return error is not None and self._is_transient(error)
