"""The context of a call or an event, which travels in the headers of its message.

`call_id_stack` is the path of calls that led to the message. `deadline` is the Unix time, in seconds, after
which no caller waits for the result. On the wire the headers have the prefix `nameko.`. Nameko also accepts
them without the prefix, so both spellings are checked. Any publisher can set headers, so none is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "nameko."
_MAX_STACK_LENGTH = 100


def validated_context(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers without malformed context, which would break the worker, or the next service."""
    return {name: value for name, value in (headers or {}).items() if _is_valid(name, value)}


def _is_valid(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    match name.removeprefix(PREFIX):
        case "call_id_stack":
            return (
                isinstance(value, list)
                and len(value) <= _MAX_STACK_LENGTH
                and all(isinstance(item, str) for item in value)
            )
        case "deadline":
            return deadline_of({"deadline": value}) is not None
        case _:
            return True


def deadline_of(context: Mapping[str, Any], prefix: str = "") -> float | None:
    """Return the deadline in Unix seconds, or None when it is absent or implausible."""
    value = context.get(f"{prefix}deadline")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        return None
    return float(value)
