"""Responses that routes make and describe."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import TypeAdapter
from starlette.responses import Response

from ..schemas import responses
from ..web.json_body import described
from ..web.problems import KINDS

_PROBLEM = described(TypeAdapter(responses.Problem))


class JsonAnswer(Response):
    """Starlette's, ready to leave: what it does for any kind of answer takes longer than to encode this."""

    def __init__(self, body: bytes, status: int, *headers: tuple[bytes, bytes]) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *headers,
        ]


def answer(value: Any, status: int = 200, location: str | None = None, age: int | None = None) -> Response:
    """What a service answered, as it is; `age` is how many seconds ago."""
    headers = []
    if location is not None:
        headers.append((b"location", location.encode("latin-1")))
    if age is not None:
        headers.append((b"age", b"%d" % age))
    return JsonAnswer(orjson.dumps(value), status, *headers)


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for the OpenAPI document."""
    documented: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = KINDS[code].status
        known = documented.get(status)
        documented[status] = {
            "description": code if known is None else f"{known['description']}, {code}",
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
    return documented


ANY_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any other problem",
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
}


BEHIND = ("validation-failed", "unavailable", "deadline-exceeded")
"""What every route may answer that asks a service."""


CHANGED = ("payload-too-large", "unsupported-media-type", *BEHIND)
"""What every route may answer that takes a body."""
