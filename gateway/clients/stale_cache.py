"""The last answers, for when nobody can be asked any more."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class ReadResult:
    """`age` is in seconds, and None for what was read just now."""

    value: dict[str, Any]
    age: int | None = None


class StaleCache:
    """Of what was read last, for `seconds`; 0 keeps none."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._copies: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def keep(self, key: str, value: dict[str, Any]) -> None:
        if not self._seconds:
            return
        self._copies[key] = time.monotonic(), value
        self._copies.move_to_end(key)
        if len(self._copies) > MAX_ENTRIES:
            self._copies.popitem(last=False)

    def recent(self, key: str) -> ReadResult | None:
        read_at, value = self._copies.get(key, (0.0, None))
        age = time.monotonic() - read_at
        return ReadResult(value, int(age)) if value is not None and age <= self._seconds else None
