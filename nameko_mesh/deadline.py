"""The deadline of the current work, which is the deadline of the request that caused the work.

    deadline.start(unix_seconds)     when a request or a call begins
    deadline.remaining(5.0)          far below, before a wait

The deadline belongs to an asyncio task or a green thread, and is no argument of the functions in between. A
new green thread has no deadline. Event handlers and the relay have none either, because no request waits for
them.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def start(deadline: float | None) -> None:
    """Set the deadline of this task or green thread: Unix seconds, or None for no limit."""
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
