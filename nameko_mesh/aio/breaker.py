"""Limits concurrent calls, and stops calls after failures in a row, for one instance or one service.

    is_trial = breaker.begin()           # raises Overloaded or Unavailable: nothing was sent
    succeeded = None
    try:
        answer = await ...
        succeeded = True
    except Unavailable:
        succeeded = False
        raise
    finally:
        breaker.end(is_trial, succeeded, seconds)

The states and their changes are M. Nygard's ("Release It!", 2007):

| state | a call | changes to |
|---|---|---|
| closed | is sent | open, after `max_failures` failures in a row |
| open | is refused | half-open, when `open_seconds` have passed and the next call begins |
| half-open | is refused, except for the trial call | closed or open, as the trial call succeeds or fails |
"""

from __future__ import annotations

import time

from nameko_mesh.errors import Overloaded, Unavailable

STATES = ("closed", "open", "half-open")


class Circuit:
    """The state machine. `now` is in seconds, of any clock that never goes back."""

    def __init__(self, max_failures: int, open_seconds: float) -> None:
        self._max_failures = max_failures
        self._open_seconds = open_seconds
        self._failures_in_a_row = 0
        self._open_until: float | None = None
        self._trial_is_running = False

    @property
    def state(self) -> str:
        """An element of STATES."""
        if self._open_until is None:
            return "closed"
        return "half-open" if self._trial_is_running else "open"

    def allows_call(self, now: float) -> bool:
        return self._open_until is None or (now >= self._open_until and not self._trial_is_running)

    def begin(self) -> bool:
        """Begin a call that `allows_call` permits. Return True for the trial call."""
        self._trial_is_running = self._open_until is not None
        return self._trial_is_running

    def end(self, is_trial: bool, succeeded: bool | None, now: float) -> None:
        if is_trial:
            self._trial_is_running = False
        elif self._open_until is not None:
            return  # the call began before the circuit opened: its outcome is stale
        if succeeded:
            self._failures_in_a_row, self._open_until = 0, None
        elif succeeded is False:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= self._max_failures:
                self._open_until = now + self._open_seconds


class Breaker:
    """Limits and counts the calls to one instance or service. Belongs to one event loop.

    At most `max_in_flight` calls run at once. After `max_failures` failures in a row no call is sent for
    `open_seconds`; then one trial call decides.
    """

    def __init__(
        self, name: str, *, max_in_flight: int = 100, max_failures: int = 5, open_seconds: float = 1.0
    ) -> None:
        self.name = name
        self.in_flight = 0
        self.calls = 0
        """Calls that began, in total."""
        self.failures = 0
        """Calls that failed, in total."""
        self.seconds = 0.0
        """Duration of all ended calls, added up."""
        self._max_in_flight = max_in_flight
        self._max_failures = max_failures
        self._circuit = Circuit(max_failures, open_seconds)

    @property
    def state(self) -> str:
        """An element of STATES."""
        return self._circuit.state

    @property
    def refusal(self) -> Unavailable | None:
        """The error that a call would raise now, or None if the call may be sent."""
        if self.in_flight >= self._max_in_flight:
            return Overloaded(f"{self.name}: {self.in_flight} calls are in flight")
        if self._circuit.allows_call(time.monotonic()):
            return None
        return Unavailable(f"{self.name}: the breaker is open: {self._max_failures} calls in a row failed")

    def begin(self) -> bool:
        """Begin a call. Return True for the trial call. Raise Overloaded or Unavailable."""
        if refusal := self.refusal:
            raise refusal
        self.in_flight += 1
        self.calls += 1
        return self._circuit.begin()

    def end(self, is_trial: bool, succeeded: bool | None, seconds: float = 0.0) -> None:
        """End a call. `succeeded` is None if the outcome says nothing about the callee."""
        self.in_flight -= 1
        self.seconds += seconds
        self.failures += succeeded is False
        self._circuit.end(is_trial, succeeded, time.monotonic())
