"""Ends a test that has used up its time, in both halves. pytest-timeout keeps the limits.

pytest-timeout alone raises in the frame that SIGALRM interrupts, which two event loops defeat:

    eventlet    the frame may belong to another greenlet than the test's; besides, pytest-timeout
                takes the patched main thread for another one and ends the process
    uvloop      it drops an exception that a signal handler raises, and waits on

So the failure is thrown into the greenlet that runs pytest, and a running asyncio loop is stopped.
`tests/contracts/repository/test_time_limit.py` hangs in each of these ways. Delete this file when it
passes without it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
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
    def end(_: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(sys.__stderr__)  # of all threads: any of them may be the one that hangs
        _fail(f"Timeout: the test did not end within {settings.timeout:g} s", frame)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True


def _fail(reason: str, interrupted: FrameType | None) -> None:
    failure = pytest.fail.Exception(reason)
    with suppress(RuntimeError):  # no loop is running
        asyncio.get_running_loop().stop()
    here = main = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    if here is main or (interrupted is not None and interrupted.f_code.co_name in HUB_SLEEPS):
        raise failure  # a hub hands it to the main greenlet, and eventlet makes another hub
    main.throw(failure)
