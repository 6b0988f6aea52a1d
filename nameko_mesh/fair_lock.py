"""One after the other, among the green threads of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventlet.semaphore import Semaphore

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable


class Turn:
    """For one at a time, in the order of their coming."""

    def __init__(self) -> None:
        self._semaphore = Semaphore(1)

    @contextmanager
    def taken(self, most: float) -> Iterator[None]:
        """Raises Unavailable when it has not come within so many seconds, DeadlineExceeded when it has not
        come in time for whoever waits for the work in hand."""
        seconds = deadline.left(most)
        if not self._semaphore.acquire(timeout=seconds):
            if deadline.is_over():
                raise DeadlineExceeded("its turn did not come in time")
            raise Unavailable(f"others have been at it for {seconds:g} s")
        try:
            yield
        finally:
            self._semaphore.release()
