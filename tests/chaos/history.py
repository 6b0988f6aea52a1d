"""Every request that was sent and every answer that came, in the order they came; nothing is ever changed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NO_ANSWER = 0
"""The status of an attempt that ended without an answer: refused, reset, or timed out."""

Items = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. `at` is in Unix seconds, `seconds` is how long the answer took."""

    at: float
    seconds: float
    user_id: str
    key: str
    items: Items
    status: int
    body: str
    code: str | None = None
    """The slug of a problem, or what kept the answer away."""

    @property
    def order_id(self) -> str:
        return str(json.loads(self.body)["order_id"])


@dataclass
class History:
    attempts: list[Attempt] = field(default_factory=list)
    others: list[tuple[float, str, int]] = field(default_factory=list)
    """Reads, restocks and so on: what was asked, its status, and how long it took."""

    def add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def add_other(self, what: str, status: int, seconds: float) -> None:
        self.others.append((seconds, what, status))

    def by_key(self) -> dict[tuple[str, str], list[Attempt]]:
        """The attempts of each order wished for, by (user, key)."""
        grouped: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in self.attempts:
            grouped.setdefault((attempt.user_id, attempt.key), []).append(attempt)
        return grouped

    def statuses(self) -> Counter[int]:
        return Counter(attempt.status for attempt in self.attempts)

    def slowest(self) -> float:
        every = [attempt.seconds for attempt in self.attempts] + [seconds for seconds, *_ in self.others]
        return max(every, default=0.0)

    def requests(self) -> int:
        return len(self.attempts) + len(self.others)

    def excerpt(self, key: str) -> list[str]:
        """What happened to one order, for people."""
        return [
            f"{time.strftime('%H:%M:%S', time.gmtime(one.at))} {one.status or '---'} "
            f"{one.code or ''} after {one.seconds:.2f} s: {dict(one.items)}"
            for one in self.attempts
            if one.key == key
        ]

    def write(self, path: Path) -> None:
        """One JSON object a line."""
        lines = [json.dumps(asdict(attempt), default=_plain) for attempt in self.attempts]
        path.write_text("\n".join(lines) + "\n")


def _plain(value: Any) -> Any:
    return str(value)
