"""Restarts what hangs: a supervisor sees a process that has ended, and not one that does nothing.

The same that Kubernetes does with a liveness probe: a process that has been healthy since it
started, and then is not for MAX_FAILURES checks in a row, is killed, and the supervisor starts it anew.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from math import inf

from mycelium.runner.process_plan import PlannedProcess
from mycelium.runner.supervisor import kill, processes
from mycelium.state import State

CHECK_INTERVAL_SECONDS = 2.0
MAX_FAILURES = 4
CHECK_TIMEOUT_SECONDS = 2.0
PIDS_MAX_AGE_SECONDS = 0.3
"""How old the number of a process may be: less than one takes to start and be healthy."""


def answers(url: str) -> bool:
    """Whether it answers 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=CHECK_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


@contextmanager
def watched(state: State, mesh: Sequence[PlannedProcess], say: Callable[[str], None]) -> Iterator[None]:
    """Each process is looked after by a thread of its own, so that one that hangs delays no other."""
    over, pids = threading.Event(), _Pids(state)
    threads = [
        threading.Thread(
            target=_watch, args=(state, one, pids, say, over), name=f"liveness of {one.member.name}"
        )
        for one in mesh
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


class _Pids:
    """What the supervisor says of all processes: it is asked once for those who want to know together."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._asked_at = -inf
        self._pids: dict[str, int] = {}

    def of(self, name: str) -> int:
        """0 when it does not run just now."""
        with self._lock:
            if time.monotonic() > self._asked_at + PIDS_MAX_AGE_SECONDS:
                self._pids = {each["name"]: each["pid"] for each in processes(self._state) or ()}
                self._asked_at = time.monotonic()
            return self._pids.get(name, 0)


def _watch(
    state: State, one: PlannedProcess, pids: _Pids, say: Callable[[str], None], over: threading.Event
) -> None:
    name = one.member.name
    pid, failures = 0, 0
    while not over.wait(
        CHECK_INTERVAL_SECONDS - time.monotonic() % CHECK_INTERVAL_SECONDS
    ):  # all at the same time
        is_well, running = answers(one.health_url), pids.of(name)
        if is_well:
            pid, failures = running, 0
        elif running and running == pid:
            failures += 1
            if failures == MAX_FAILURES:
                say(f"{name} (process {pid}) has been unhealthy {MAX_FAILURES} times: it is killed")
                kill(state, name)
                pid, failures = 0, 0
