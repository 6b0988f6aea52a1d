"""A lock for green threads that serves its waiters in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventlet.semaphore import Semaphore

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable


class FairLock:
    """A lock whose waits are bounded. `guards` names the guarded thing in errors, such as `the database`."""

    def __init__(self, guards: str) -> None:
        self._guards = guards
        self._semaphore = Semaphore(1)

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock for the `with` block.

        Raises Unavailable after `timeout` seconds, or DeadlineExceeded at the current deadline.
        """
        seconds = deadline.remaining(timeout)
        if not self._semaphore.acquire(timeout=seconds):
            busy = f"{self._guards} is busy: waited {seconds:g} s for the write lock"
            raise DeadlineExceeded(busy) if deadline.expired() else Unavailable(busy)
        try:
            yield
        finally:
            self._semaphore.release()
