"""Kill processes that hang, because a supervisor only notices processes that have ended.

Only a process that has been healthy since its start is watched. After MAX_FAILURES failed checks in a row it
is killed, and the supervisor starts it again. Kubernetes does the same with a liveness probe.
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
CHECK_TIMEOUT_SECONDS = 2.0
MAX_FAILURES = 4
PIDS_MAX_AGE_SECONDS = 0.3
"""Less than a process needs to start and become healthy, so a cached pid is never a predecessor's."""


def answers(url: str) -> bool:
    """Return whether a GET is answered with 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=CHECK_TIMEOUT_SECONDS) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False


@contextmanager
def watched(state: State, mesh: Sequence[PlannedProcess], say: Callable[[str], None]) -> Iterator[None]:
    """Check each process in a thread of its own, so that a hanging process delays no other check."""
    stopped, pids = threading.Event(), _Pids(state)
    watches = [_Watch(state, process, pids, say, stopped) for process in mesh]
    threads = [threading.Thread(target=watch.run, name=f"liveness of {watch.name}") for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class _Pids:
    """A cache of the pids. The supervisor is asked once for all threads that check at the same time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._read_at = -inf
        self._pids: dict[str, int] = {}

    def get(self, name: str) -> int:
        """Return the pid, or 0 when the process does not run."""
        with self._lock:
            if time.monotonic() > self._read_at + PIDS_MAX_AGE_SECONDS:
                running = processes(self._state) or ()
                self._pids = {process["name"]: process["pid"] for process in running}
                self._read_at = time.monotonic()
            return self._pids.get(name, 0)


class _Watch:
    """The checks of one process."""

    def __init__(
        self,
        state: State,
        process: PlannedProcess,
        pids: _Pids,
        say: Callable[[str], None],
        stopped: threading.Event,
    ) -> None:
        self.name = process.member.name
        self._state, self._url, self._pids, self._say = state, process.health_url, pids, say
        self._stopped = stopped
        self._healthy_pid, self._failures = 0, 0

    def run(self) -> None:
        # All threads check at the same moments, so that they share one look at the supervisor.
        while not self._stopped.wait(CHECK_INTERVAL_SECONDS - time.monotonic() % CHECK_INTERVAL_SECONDS):
            self._check()

    def _check(self) -> None:
        is_healthy, pid = answers(self._url), self._pids.get(self.name)
        if is_healthy:
            self._healthy_pid, self._failures = pid, 0
        elif pid and pid == self._healthy_pid:
            self._failures += 1
            if self._failures == MAX_FAILURES:
                self._kill(pid)

    def _kill(self, pid: int) -> None:
        self._say(f"{self.name} (process {pid}) failed {MAX_FAILURES} health checks in a row: killing it")
        kill(self._state, self.name)
        self._healthy_pid, self._failures = 0, 0
