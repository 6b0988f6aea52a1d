"""The CPU time of small steps, for the tricks of this package."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

ROUNDS, STEPS = 5, 4000

Steps = Callable[[], int]
"""Runs a round of steps and returns their number."""


def repeat(step: Callable[[], Any]) -> Steps:
    def steps() -> int:
        for _ in range(STEPS):
            step()
        return STEPS

    return steps


def microseconds(steps: Steps) -> float:
    """Return the CPU time of a step in its fastest round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        count = steps()
        best = min(best, (time.process_time() - began) / count)
    return best * 1e6


def report(lines: Mapping[str, tuple[Steps, Steps]]) -> None:
    """Print the microseconds of the plain way and of the trick, and their ratio."""
    print(f"{'':36}{'plain':>9}{'trick':>9}{'ratio':>8}")
    for name, (plain, trick) in lines.items():
        before, after = microseconds(plain), microseconds(trick)
        print(f"{name:36}{before:9.2f}{after:9.2f}{before / after:8.1f}")
