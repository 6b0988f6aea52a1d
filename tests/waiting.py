"""Wait for a condition, with a time limit, in place of a sleep.

Every form returns the first true value of the condition. An AssertionError in the condition means 'not yet'.
At the end of the time the last such error is raised, or else an AssertionError that names the condition.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 10.0
CONDITION = "the condition"
POLL_SECONDS = 0.02


def eventually(
    condition: Callable[[], T],
    seconds: float = SECONDS,
    what: str = CONDITION,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Wait in code without an event loop, or under eventlet, which makes the pause cooperative."""
    deadline = time.monotonic() + seconds
    while True:
        failure: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            failure = error
        else:
            if value:
                return value
        if time.monotonic() > deadline:
            raise failure or _not_met(what, seconds)
        time.sleep(poll_seconds)


async def eventually_async(
    condition: Callable[[], T | Awaitable[T]],
    seconds: float = SECONDS,
    what: str = CONDITION,
    poll_seconds: float = POLL_SECONDS / 4,
) -> T:
    """Wait in asyncio code. The condition may be async; it is cancelled at the end of the time."""
    failure: AssertionError | None = None
    try:
        async with asyncio.timeout(seconds) as limit:
            while True:
                try:
                    value = condition()
                    if inspect.isawaitable(value):
                        value = await value
                except AssertionError as error:
                    failure = error
                else:
                    failure = None
                    if value:
                        return value
                await asyncio.sleep(poll_seconds)
    except TimeoutError:
        if not limit.expired():  # the condition itself has raised it
            raise
    raise failure or _not_met(what, seconds)


async def eventually_in_thread(
    condition: Callable[[], T], seconds: float = SECONDS, what: str = CONDITION, poll_seconds: float = 0.1
) -> T:
    """Wait in asyncio code for a condition that blocks, which runs in a thread."""
    return await eventually_async(lambda: asyncio.to_thread(condition), seconds, what, poll_seconds)


def _not_met(what: str, seconds: float) -> AssertionError:
    return AssertionError(f"{what}: not met within {seconds:g} s")
