"""Whoever is called: how many calls at once it may have, and when it is left alone for a while.

    is_probe = target.begin()            # raises Overloaded or Unavailable: nothing was sent
    went_well = None
    try:
        answer = await ...
        went_well = True
    except Unavailable:
        went_well = False
        raise
    finally:
        target.end(is_probe, went_well, seconds)

The breaker is pybreaker's state machine, told of each outcome instead of wrapped around each call: a call
that goes well, the normal case, costs two comparisons.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, CircuitBreaker, CircuitBreakerError, CircuitMemoryStorage

from nameko_mesh.errors import Overloaded, Unavailable

STATES = ("closed", "open", "half-open")


class _Failed(Exception):
    """What the breaker is told; it wants an exception."""


class Target:
    """One instance, or one service behind a queue. Belongs to one event loop.

    `most` calls are in flight at once. After `failures` in a row it rests for `rest` seconds, and is then
    asked by one call alone, which decides whether the others may come back.
    """

    def __init__(self, name: str, *, most: int = 100, failures: int = 5, rest: float = 1.0) -> None:
        self.name = name
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        """Calls that have ever begun, and of those the ones that failed."""
        self.seconds = 0.0
        """How long all that have ended took together."""
        self._most = most
        self._rest = timedelta(seconds=rest)
        self._memory = CircuitMemoryStorage(STATE_CLOSED)
        self._breaker = CircuitBreaker(
            failures, rest, state_storage=self._memory, throw_new_error_on_trip=False
        )
        self._is_closed = True
        self._is_probed = False

    @property
    def state(self) -> str:
        """One of STATES."""
        return STATE_HALF_OPEN if self._is_probed else self._memory.state

    @property
    def refusal(self) -> Unavailable | None:
        """Why it can't be called now."""
        if self.in_flight >= self._most:
            return Overloaded(f"{self.name}: {self.in_flight} calls are in flight")
        if self._is_closed or (not self._is_probed and self._has_rested):
            return None
        return Unavailable(
            f"{self.name}: {self._breaker.fail_max} calls in a row have failed, it is left alone"
        )

    @property
    def _has_rested(self) -> bool:
        opened_at = self._memory.opened_at
        return opened_at is None or datetime.now(UTC) >= opened_at + self._rest

    def begin(self) -> bool:
        """Whether this call is the one that finds out. Raises Overloaded or Unavailable."""
        if refusal := self.refusal:
            raise refusal
        self.in_flight += 1
        self.calls += 1
        if self._is_closed:
            return False
        self._is_probed = True
        return True

    def end(self, is_probe: bool, went_well: bool | None, seconds: float = 0.0) -> None:
        """`went_well` is None for a call that tells nothing: cancelled, or not this target's fault."""
        self.in_flight -= 1
        self.seconds += seconds
        if is_probe:
            self._is_probed = False
        if went_well is False:
            self.failures += 1
            self._tell(is_probe, failed=True)
        elif went_well and (is_probe or self._breaker.fail_counter):
            self._tell(is_probe, failed=False)

    def _tell(self, is_probe: bool, *, failed: bool) -> None:
        if not self._is_closed and not is_probe:
            return  # begun before it opened: old news
        with suppress(_Failed, CircuitBreakerError):  # its state is what we are after
            self._breaker.call(_fail if failed else _go_well)
        self._is_closed = self._memory.state == STATE_CLOSED


def _fail() -> None:
    raise _Failed


def _go_well() -> None:
    pass
