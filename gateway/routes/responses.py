"""Responses that routes make and describe."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import TypeAdapter
from starlette.responses import Response

from ..schemas import responses
from ..web.json_body import register_schema
from ..web.problems import PROBLEM_KINDS

_PROBLEM = register_schema(TypeAdapter(responses.Problem))


class JsonResponse(Response):
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


def json_response(
    value: Any, status: int = 200, location: str | None = None, age: int | None = None
) -> Response:
    """What a service answered, as it is; `age` is how many seconds ago."""
    headers = []
    if location is not None:
        headers.append((b"location", location.encode("latin-1")))
    if age is not None:
        headers.append((b"age", b"%d" % age))
    return JsonResponse(orjson.dumps(value), status, *headers)


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for the OpenAPI document."""
    documented: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = PROBLEM_KINDS[code].status
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


BACKEND_PROBLEMS = ("validation-failed", "unavailable", "deadline-exceeded")
"""What every route may answer that asks a service."""


BODY_PROBLEMS = ("payload-too-large", "unsupported-media-type", *BACKEND_PROBLEMS)
"""What every route may answer that takes a body."""
