"""The context of a call, and a reader of the fields of a response."""

from __future__ import annotations

from typing import Any

import msgspec

from nameko_mesh.errors import RemoteFault

Json = dict[str, Any]


class CallContext(msgspec.Struct, frozen=True):
    """The context that all calls of one request carry. `deadline` is in Unix seconds."""

    request_id: str
    deadline: float


def require_text(response: Json, *path: str) -> str:
    """Return the string at `path` of a service's response. Raises RemoteFault when there is none."""
    value: Any = response
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise RemoteFault("MalformedAnswer", f"the response lacks the text {'.'.join(path)}")
    return value
