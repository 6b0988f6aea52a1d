"""The append-only log of requests and responses."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NO_ANSWER = 0
"""Status of an attempt without a response: refused, reset or timed out."""

Items = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request to place an order. `at` is in Unix seconds, `seconds` is the time until the response."""

    at: float
    seconds: float
    user_id: str
    key: str
    items: Items
    status: int
    body: str
    code: str | None = None
    """Slug of the problem, or the name of the client's error."""

    @property
    def order_id(self) -> str:
        return str(json.loads(self.body)["order_id"])


@dataclass
class History:
    attempts: list[Attempt] = field(default_factory=list)
    others: list[tuple[float, str, int]] = field(default_factory=list)
    """Seconds, request and status of reads, restocks and other requests."""

    def add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def add_other(self, request: str, status: int, seconds: float) -> None:
        self.others.append((seconds, request, status))

    def by_key(self) -> dict[tuple[str, str], list[Attempt]]:
        """Group the attempts by (user, key): each group is about one order."""
        grouped: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in self.attempts:
            grouped.setdefault((attempt.user_id, attempt.key), []).append(attempt)
        return grouped

    def statuses(self) -> Counter[int]:
        return Counter(attempt.status for attempt in self.attempts)

    def slowest(self) -> float:
        durations = [attempt.seconds for attempt in self.attempts] + [seconds for seconds, *_ in self.others]
        return max(durations, default=0.0)

    def requests(self) -> int:
        return len(self.attempts) + len(self.others)

    def excerpt(self, key: str) -> list[str]:
        """Describe the attempts of an order, for people."""
        return [
            f"{time.strftime('%H:%M:%S', time.gmtime(attempt.at))} {attempt.status or '---'} "
            f"{attempt.code or ''} after {attempt.seconds:.2f} s: {dict(attempt.items)}"
            for attempt in self.attempts
            if attempt.key == key
        ]

    def write(self, path: Path) -> None:
        """Write the attempts to a file, as a JSON object per line."""
        lines = [json.dumps(asdict(attempt), default=_plain) for attempt in self.attempts]
        path.write_text("\n".join(lines) + "\n")


def _plain(value: Any) -> Any:
    return str(value)
