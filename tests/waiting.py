"""Waiting on a condition, with a limit: tests never sleep for a while and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 10.0, what: str = "the condition") -> T:
    """The first true answer of `condition`; an AssertionError in it counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        failure: AssertionError | None = None
        try:
            answer = condition()
        except AssertionError as error:
            failure = error
        else:
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"{what} was not met within {seconds} s")
        time.sleep(0.02)
