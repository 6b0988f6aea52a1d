"""The stacks that are compared. Each starts as its users start it, and knows the requests to send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bench.load import Load


class WrongBooks(Exception):
    """The stored orders do not match the responses."""


class Stack(Protocol):
    """A running stack."""

    name: str

    def orders(self) -> Load: ...

    def reads(self) -> Load: ...

    def roots(self) -> Mapping[str, int]:
        """Return the pid of each process, by name."""
        ...

    def clean(self) -> None:
        """Empty tables and queues, and finish background work, before a run."""
        ...

    def open_books(self) -> None:
        """Record what is stored before a run."""
        ...

    def settle(self) -> None:
        """Wait until all work that follows from the responses is done."""
        ...

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        """Check that every answered order is stored, plus at most `unknown` more (in flight or failed).

        Returns notes for the report. Raises WrongBooks.
        """
        ...
