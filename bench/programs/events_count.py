"""How many events a process has handled, and when the last one."""

from __future__ import annotations

import time
from typing import Any

from nameko.extensions import DependencyProvider


class Counted(DependencyProvider):
    def setup(self) -> None:
        self._count, self._last = 0, 0.0

    def get_dependency(self, worker_ctx: Any) -> Counted:
        return self

    def one(self) -> None:
        self._count += 1
        self._last = time.time()

    def so_far(self) -> tuple[int, float]:
        return self._count, self._last
