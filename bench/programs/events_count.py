"""Count the events that a process has handled, and note the time of the last event."""

from __future__ import annotations

import time
from typing import Any

from nameko.extensions import DependencyProvider


class EventCounter(DependencyProvider):
    def setup(self) -> None:
        self._count, self._last = 0, 0.0

    def get_dependency(self, worker_ctx: Any) -> EventCounter:
        return self

    def add(self) -> None:
        self._count += 1
        self._last = time.time()

    def count_and_last(self) -> tuple[int, float]:
        return self._count, self._last
