"""A write of a transaction, in the form that each database executes (sql.write_batch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

Row = Mapping[str, Any]
"""Plain values by column. A datetime has a time zone. A JSON column holds JSON values or dataclasses."""


class StaleWrite(Exception):
    """Some rows have changed since the writer read them. Read the rows again, and repeat the command."""


def _ignore(_: Any) -> None:
    """Do nothing: the default for a statement without a result."""


class Statement(msgspec.Struct, frozen=True):
    """A write of a batch.

    On PostgreSQL:

    - `postgresql` is the text, with the placeholders `{0}`, `{1}` and so on for `values`;
    - `values` are pairs of a PostgreSQL type and a value;
    - `returning` is an aggregate over the returned rows, such as `count(written)`;
    - `on_result` gets the value of that aggregate;
    - StaleWrite is raised if fewer than `expected_rows` are returned.

    On SQLite `execute` is called instead. It raises StaleWrite itself, and `on_result` gets its result.
    """

    postgresql: str
    values: tuple[tuple[str, Any], ...]
    execute: Callable[[sa.Connection], Any]
    returning: str = ""
    on_result: Callable[[Any], None] = _ignore
    expected_rows: int | None = None
