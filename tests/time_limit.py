"""Ends a test that has used up its time, in both halves. pytest-timeout keeps the limits.

pytest-timeout alone raises in the frame that SIGALRM interrupts, which the event loops defeat:

    eventlet    the frame may belong to another greenlet than the test's; besides, pytest-timeout
                takes the patched main thread for another one and ends the process
    uvloop      it drops an exception that a signal handler raises, and waits on
    asyncio     it may lose the step of a task that it was about to run, and waits for it at its end

So the failure is thrown into the greenlet that runs pytest. A running asyncio loop is stopped first;
only when that does not help within a second, the failure is raised in its frame.
`tests/integration/harness/test_hanging_tests.py` hangs in each of these ways. Delete this file when it
passes without it.
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
"""The limits by folder, fixtures included; `timeout` in pyproject.toml holds for the rest."""


STOP_SECONDS = 1.0
"""Until the failure is raised in a coroutine that blocks its loop, which does not stop for that."""
CLEANUP_SECONDS = 15.0
"""For what the test does at its end, before it is ended again; its fixtures have no limit by then."""

HUB_SLEEPS = ("wait", "do_poll")
"""The functions in which eventlet's hub sleeps. Left as it is, it would sleep on through the next test."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("timeout") is not None:  # the command line decides, `--timeout=0` for a debugger
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
        faulthandler.dump_traceback(sys.__stderr__)  # of all threads: any of them may be the one that hangs
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
