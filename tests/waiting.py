"""Waiting on a condition, with a limit: tests never sleep for a while and hope.

Every form returns the first true answer. An AssertionError in the condition counts as not yet, and is
raised when the time is over; without one, an AssertionError names what was awaited.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 10.0
THING = "the condition"
POLL_SECONDS = 0.02


def eventually(
    condition: Callable[[], T],
    seconds: float = SECONDS,
    what: str = THING,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """For code without an event loop of its own, and for eventlet, which makes the pause cooperative."""
    deadline = time.monotonic() + seconds
    while True:
        failure: AssertionError | None = None
        try:
            answer = condition()
        except AssertionError as error:
            failure = error
        else:
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise failure or _not_met(what, seconds)
        time.sleep(poll_seconds)


async def eventually_async(
    condition: Callable[[], T | Awaitable[T]],
    seconds: float = SECONDS,
    what: str = THING,
    poll_seconds: float = POLL_SECONDS / 4,
) -> T:
    """For asyncio. The condition is plain or async; an async one is cancelled when the time is over."""
    failure: AssertionError | None = None
    try:
        async with asyncio.timeout(seconds) as limit:
            while True:
                try:
                    answer = condition()
                    if inspect.isawaitable(answer):
                        answer = await answer
                except AssertionError as error:
                    failure = error
                else:
                    failure = None
                    if answer:
                        return answer
                await asyncio.sleep(poll_seconds)
    except TimeoutError:
        if not limit.expired():  # it is the condition's own
            raise
    raise failure or _not_met(what, seconds)


async def eventually_in_thread(
    condition: Callable[[], T], seconds: float = SECONDS, what: str = THING, poll_seconds: float = 0.1
) -> T:
    """For asyncio, with a condition that blocks and so would stop the loop."""
    return await eventually_async(lambda: asyncio.to_thread(condition), seconds, what, poll_seconds)


def _not_met(what: str, seconds: float) -> AssertionError:
    return AssertionError(f"{what}: not met within {seconds:g} s")
