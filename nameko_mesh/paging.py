"""Pages of a long list: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

A cursor is the encoded sort key of the last item, and opaque to the client. Pages therefore stay correct
while rows are added and removed, and the last page costs no more than the first.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nameko_mesh.errors import Refused

MAX_LIMIT = 100

T = TypeVar("T")


def checked_limit(limit: Any) -> int:
    """Return the limit. Raises Refused when it is no integer from 1 to MAX_LIMIT."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Refused("validation-failed", f"limit: expected a whole number from 1 to {MAX_LIMIT}", "limit")
    return limit


def decode_cursor(cursor: Any, parts: int = 1) -> list[str] | None:
    """Return the strings of the sort key, or None for the first page. Raises Refused for a forged cursor."""
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
    """Return the page of the first `limit` rows. The caller reads `limit + 1` rows, to detect a next page."""
    has_next = len(rows) > limit
    cursor = json.dumps(list(key(rows[limit - 1])), separators=(",", ":")) if has_next else None
    return {
        "items": [encode(row) for row in rows[:limit]],
        "next_cursor": base64.urlsafe_b64encode(cursor.encode()).decode() if cursor else None,
    }
