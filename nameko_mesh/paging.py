"""Pages of a long list: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

A cursor is the sort key of the last item seen, opaque to the client: pages stay right while rows
come and go, and the last page costs no more than the first.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nameko_mesh.errors import Refused

MOST = 100

T = TypeVar("T")


def checked_limit(limit: Any) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise Refused("validation-failed", f"limit: expected a whole number from 1 to {MOST}", "limit")
    return limit


def decode_cursor(cursor: Any, parts: int = 1) -> list[str] | None:
    """The strings of the sort key, or None for the first page. Raises Refused for a forged cursor."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if len(key) != parts or not all(isinstance(part, str) and part.isascii() for part in key):
            raise ValueError
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        raise Refused(
            "validation-failed", "cursor: expected the next_cursor of an earlier page", "cursor"
        ) from None
    return list(key)


def page(
    rows: Sequence[T], limit: int, encode: Callable[[T], dict[str, Any]], key: Callable[[T], Sequence[str]]
) -> dict[str, Any]:
    """The first `limit` of `rows`, which were read with a limit of one more."""
    more = len(rows) > limit
    cursor = json.dumps(list(key(rows[limit - 1])), separators=(",", ":")) if more else None
    return {
        "items": [encode(row) for row in rows[:limit]],
        "next_cursor": base64.urlsafe_b64encode(cursor.encode()).decode() if cursor else None,
    }
