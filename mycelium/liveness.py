"""Restarts what hangs: a supervisor sees a process that has ended, and not one that does nothing.

The same that Kubernetes does with a liveness probe: a process that has been healthy since it
started, and then is not for FAILURES checks in a row, is killed, and the supervisor starts it anew.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException

from mycelium.plan import Planned
from mycelium.state import State
from mycelium.supervisor import kill, pid_of

CHECK_SECONDS = 2.0
FAILURES = 4
ANSWER_SECONDS = 2.0


def answers(url: str) -> bool:
    """Whether it answers 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


@contextmanager
def watched(state: State, mesh: Sequence[Planned], say: Callable[[str], None]) -> Iterator[None]:
    """Each process is looked after by a thread of its own, so that one that hangs delays no other."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_watch, args=(state, one, say, over), name=f"liveness of {one.member.name}")
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


def _watch(state: State, one: Planned, say: Callable[[str], None], over: threading.Event) -> None:
    name = one.member.name
    pid, failures = 0, 0
    while not over.wait(CHECK_SECONDS):
        running = pid_of(state, name)
        if answers(one.health_url):
            pid, failures = running, 0
        elif running and running == pid:
            failures += 1
            if failures == FAILURES:
                say(f"{name} (process {pid}) has been unhealthy {FAILURES} times: it is killed")
                kill(state, name)
                pid, failures = 0, 0
