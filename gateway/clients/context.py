"""The context of a request, and how answers are read."""

from __future__ import annotations

from typing import Any

import msgspec

from nameko_mesh.errors import (
    RemoteFault,
)

Json = dict[str, Any]


class CallContext(msgspec.Struct, frozen=True):
    """What travels with all calls of one request. `deadline` is in Unix seconds."""

    request_id: str
    deadline: float


def require_text(answer: Json, *path: str) -> str:
    """The string at `path` of what a service answered. Raises RemoteFault when there is none."""
    value: Any = answer
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise RemoteFault("MalformedAnswer", f"an answer lacks {'.'.join(path)}")
    return value
