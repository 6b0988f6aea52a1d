"""The clock of the database, as an expression."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def clock(dialect: str) -> Any:
    """The database's clock as an expression, the one that all instances of a service share."""
    if dialect == "postgresql":
        return sa.func.clock_timestamp()
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now")
