"""How long to wait before trying again."""

from __future__ import annotations

from random import uniform


def back_off(failures: int, first: float = 0.2, longest: float = 5.0) -> float:
    """Seconds to wait after so many failures in a row: exponential, with full jitter.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0, min(longest, first * 2.0 ** min(failures, 30)))
