"""How much is measured, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """`quiet_seconds` is how long to wait for a quiet machine before each run."""

    rounds: int
    seconds: float
    clients: tuple[int, ...]
    quick: bool
    folder: Path
    say: Say

    @property
    def quiet_seconds(self) -> float:
        return 3 if self.quick else 60
