"""Fail a test that exceeds its time limit, in both halves. pytest-timeout keeps the limits.

pytest-timeout alone raises in the frame that SIGALRM interrupts. That fails under event loops:

    eventlet    the frame may belong to another greenlet; and pytest-timeout ends the whole process,
                because it does not recognise the patched main thread
    uvloop      drops an exception that a signal handler raises, and waits on
    asyncio     may lose the step of a task that it was about to run, and waits for that task at its end

So the failure is thrown into the greenlet that runs pytest. A running asyncio loop is stopped first. If it
does not stop within a second, the failure is raised in its frame.
`tests/integration/harness/test_hanging_tests.py` hangs in each of these ways. Delete this file when that
test passes without it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import greenlet
import pytest

SECONDS: Mapping[str, int] = {
    "tests/unit": 30,
    "tests/integration": 300,  # the first test that needs a server may have to fetch it
    "tests/e2e": 600,
    "tests/chaos": 900,  # a row that fails is played a second time
}
"""Limits by folder, including fixtures. `timeout` in pyproject.toml is the limit elsewhere."""


STOP_SECONDS = 1.0
"""A loop has this time to stop. A coroutine that blocks the loop prevents it."""
CLEANUP_SECONDS = 15.0
"""The cleanup of a failed test has this time, because its fixtures have no limit of their own by then."""

HUB_SLEEPS = ("wait", "do_poll")
"""Functions in which eventlet's hub sleeps. Without an exception it would sleep into the next test."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("timeout") is not None:  # the command line wins: `--timeout=0` for a debugger
        return
    for item in items:
        folder = "/".join(Path(item.path).relative_to(config.rootpath).parts[:2])
        if folder in SECONDS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS[folder]))


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    reason = f"Timeout: the test did not end within {settings.timeout:g} s"
    tries = count()

    def end(_: int, frame: FrameType | None) -> None:
        print(reason, file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(sys.__stderr__)  # all threads, because any of them may hang
        loop = _running_loop()
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        if loop is not None and next(tries) == 0:
            signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)
            return
        signal.setitimer(signal.ITIMER_REAL, CLEANUP_SECONDS)
        _fail(reason, frame)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True


def _fail(reason: str, interrupted: FrameType | None) -> None:
    failure = pytest.fail.Exception(reason)
    here = main = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    if here is main or (interrupted is not None and interrupted.f_code.co_name in HUB_SLEEPS):
        raise failure  # a hub hands it to the main greenlet, and eventlet makes another hub
    main.throw(failure)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
