"""Delays between attempts."""

from __future__ import annotations

from tenacity import RetryCallState, Retrying, wait_random_exponential

_RETRYING = Retrying()


def back_off(failures: int, first: float = 0.2, longest: float = 5.0) -> float:
    """Return the seconds to wait after `failures` failures in a row: exponential, with full jitter.

    The delay is random between 0 and `first * 2**failures`, but at most `longest`.
    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    state = RetryCallState(_RETRYING, fn=None, args=(), kwargs={})
    state.attempt_number = failures + 1  # tenacity counts attempts, from 1
    return wait_random_exponential(multiplier=first, max=longest, exp_base=2.0)(state)
