"""The context that travels with a message: headers that any publisher can set, so trust none.

`call_id_stack` is the path of calls that led here; `deadline` is the Unix time, in seconds, after
which nobody waits for the answer. On the wire they are headers with the prefix `nameko.`; Nameko
takes them without it as well, so both spellings are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "nameko."
_LONGEST_STACK = 100


def validated_context(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers without those that would break a worker: what is no context is dropped, not passed on."""
    return {name: value for name, value in (headers or {}).items() if _is_sound(name, value)}


def _is_sound(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    match name.removeprefix(PREFIX):
        case "call_id_stack":
            return (
                isinstance(value, list)
                and len(value) <= _LONGEST_STACK
                and all(isinstance(item, str) for item in value)
            )
        case "deadline":
            return deadline_of({"deadline": value}) is not None
        case _:
            return True


def deadline_of(context: Mapping[str, Any], prefix: str = "") -> float | None:
    """The deadline in Unix seconds, or None when there is none that makes sense."""
    value = context.get(f"{prefix}deadline")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        return None
    return float(value)
