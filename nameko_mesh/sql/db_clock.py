"""The clock of the database as an SQL expression. All instances of a service share it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def clock(dialect: str) -> Any:
    """Return the expression for the current time in this dialect."""
    if dialect == "postgresql":
        return sa.func.clock_timestamp()
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now")
