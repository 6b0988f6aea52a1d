"""What is worth a line in the log."""

from __future__ import annotations

import logging

from mesh.errors import describe


class Unexpected(logging.Filter):
    """Keeps what went wrong and drops what was refused: a refusal is an answer, not a fault.

    For the logger `nameko.containers`, which reports every exception of an entrypoint.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or describe(error) is None
