"""What is worth a line in the log."""

from __future__ import annotations

import logging

from nameko_mesh import deadline as budget
from nameko_mesh.errors import DeadlineExceeded, MeshError, Unavailable, describe

FAULTS = frozenset(kind.slug for kind in (MeshError, Unavailable, DeadlineExceeded))
"""Slugs that tell a caller something and the operator more."""


class Unexpected(logging.Filter):
    """Keeps what went wrong and drops what was refused: a refusal is an answer, not a fault.

    For the logger `nameko.containers`, which reports every exception of an entrypoint.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        public = describe(error) if error else None
        return public is None or public["code"] in FAULTS


class Formatter(logging.Formatter):
    """Ends a line with the milliseconds that are left for the work that it is about, where that has a
    deadline: `budget_ms=312`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        deadline = budget.deadline()
        return line if deadline is None else f"{line} budget_ms={(deadline - record.created) * 1000:.0f}"
