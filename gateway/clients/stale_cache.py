"""A cache of the last responses, for the time when no instance of a service answers."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import msgspec

MAX_ENTRIES = 10_000


class ReadResult(msgspec.Struct, frozen=True):
    """A value that was read. `age` is in seconds, and None for a value that was read just now."""

    value: dict[str, Any]
    age: int | None = None


class StaleCache:
    """Keeps each value for `max_age` seconds. A `max_age` of 0 turns the cache off."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._entries: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def put(self, key: str, value: dict[str, Any]) -> None:
        if not self._max_age:
            return
        self._entries[key] = time.monotonic(), value
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def get(self, key: str) -> ReadResult | None:
        """Return the value if it is not older than `max_age`."""
        read_at, value = self._entries.get(key, (0.0, None))
        age = time.monotonic() - read_at
        return ReadResult(value, int(age)) if value is not None and age <= self._max_age else None
