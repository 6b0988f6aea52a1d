"""The options of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """Rounds, seconds of load per run, numbers of clients, and a folder for data and logs."""

    rounds: int
    seconds: float
    clients: tuple[int, ...]
    quick: bool
    folder: Path
    say: Say

    @property
    def quiet_seconds(self) -> float:
        """Seconds to wait for a quiet machine before each run."""
        return 3 if self.quick else 60
