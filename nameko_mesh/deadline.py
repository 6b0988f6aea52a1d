"""The time that is left for the work in hand: until the deadline of the request that it is done for.

    budget.begin(deadline)      when a request or a call is taken up
    budget.left(5.0)            far below, where something is waited for

The deadline belongs to the flow of control, an asyncio task or a green thread, and is no argument of all
that lies between. A green thread begins without one, as does whatever no request has asked for: an event
is handled and a relay publishes however long it takes.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def begin(deadline: float | None) -> None:
    """From here on in this flow. Unix seconds, or None for work that may take its time."""
    _deadline.set(deadline)


def deadline() -> float | None:
    return _deadline.get()


def left(most: float) -> float:
    """Seconds, from 0 to `most`, which stands where there is no deadline."""
    ends = _deadline.get()
    return most if ends is None else max(0.0, min(most, ends - time.time()))


def is_over() -> bool:
    """Whether nobody waits for the outcome any more."""
    ends = _deadline.get()
    return ends is not None and ends <= time.time()
