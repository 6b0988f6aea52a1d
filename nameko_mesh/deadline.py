"""The deadline of the work in hand: the deadline of the request that caused the work.

    deadline.start(unix_seconds)     when a request or a call begins
    deadline.remaining(5.0)          far below, before a wait

The deadline belongs to the flow of control, an asyncio task or a green thread. It is no argument of the
functions in between. A green thread starts without a deadline. So do event handlers and the relay, because
no request waits for them.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def start(deadline: float | None) -> None:
    """Set the deadline of this flow of control: Unix seconds, or None for no limit."""
    _deadline.set(deadline)


def current() -> float | None:
    """Return the deadline in Unix seconds, or None when the work has no deadline."""
    return _deadline.get()


def remaining(limit: float) -> float:
    """Return the seconds until the deadline, from 0 to `limit`; without a deadline, return `limit`."""
    deadline = _deadline.get()
    return limit if deadline is None else max(0.0, min(limit, deadline - time.time()))


def expired() -> bool:
    """Return True after the deadline, when no caller waits for the outcome."""
    deadline = _deadline.get()
    return deadline is not None and deadline <= time.time()
