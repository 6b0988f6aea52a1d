"""The context that travels with a message: headers that any publisher can set, so trust none.

`nameko.call_id_stack` is the path of calls that led here; `nameko.deadline` is the Unix time, in
seconds, after which nobody waits for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CALL_STACK = "nameko.call_id_stack"
_DEADLINE = "nameko.deadline"
_LONGEST_STACK = 100


def validated_context(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers without those that would break a worker: wrong types are dropped, not passed on."""
    context = dict(headers or {})
    stack = context.get(_CALL_STACK)
    if stack is not None and not (
        isinstance(stack, list)
        and len(stack) <= _LONGEST_STACK
        and all(isinstance(item, str) for item in stack)
    ):
        del context[_CALL_STACK]
    if _DEADLINE in context and deadline_of(context, prefix="nameko.") is None:
        del context[_DEADLINE]
    return context


def deadline_of(context: Mapping[str, Any], prefix: str = "") -> float | None:
    """The deadline in Unix seconds, or None when there is none that makes sense."""
    value = context.get(f"{prefix}deadline")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        return None
    return float(value)
