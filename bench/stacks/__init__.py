"""The stacks that are compared: each starts as people start it, and says what to send to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bench.load import Load


class WrongBooks(Exception):
    """What a stack has stored does not agree with what it has answered."""


class Stack(Protocol):
    """A stack that runs."""

    name: str

    def orders(self) -> Load: ...

    def reads(self) -> Load: ...

    def roots(self) -> Mapping[str, int]:
        """The pid of each of its processes, by name."""
        ...

    def clean(self) -> None:
        """Before a run: empty tables and queues, and nothing left to be done in the background."""
        ...

    def open_books(self) -> None:
        """Note what is stored before a run."""
        ...

    def settle(self) -> None:
        """Wait until all that follows from the answers is done."""
        ...

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        """That every order answered is stored, and no more beside than were in flight or failed.

        Returns what is worth knowing beside. Raises WrongBooks.
        """
        ...
