"""Log filters and formatters for Nameko services."""

from __future__ import annotations

import logging

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, MeshError, Unavailable, describe

FAULTS = frozenset(kind.slug for kind in (MeshError, Unavailable, DeadlineExceeded))
"""Public slugs of faults. An exception with another slug is a refusal, which is a normal answer."""


class FaultFilter(logging.Filter):
    """Drops the log records of refusals, and keeps those of faults.

    Meant for the logger `nameko.containers`, which reports every exception of an entrypoint.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        public = describe(error) if error else None
        return public is None or public["code"] in FAULTS


class Formatter(logging.Formatter):
    """Appends the milliseconds until the deadline, such as `budget_ms=312`, while a deadline is set."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        ends_at = deadline.current()
        return line if ends_at is None else f"{line} budget_ms={(ends_at - record.created) * 1000:.0f}"
