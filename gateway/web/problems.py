"""Errors as problem details (RFC 9457), and the table that maps their codes to HTTP statuses.

The gateway raises Problem itself. EXCEPTION_HANDLERS turns the exceptions of FastAPI and of calls of services
into problems.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from nameko_mesh.errors import DeadlineExceeded, MeshError, Refused, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """The parts that all problems of one code share. `retry_after` is in seconds."""

    status: int
    title: str
    retry_after: int | None = None


PROBLEM_KINDS: Mapping[str, ProblemKind] = {
    "unauthenticated": ProblemKind(401, "Authentication required"),
    "forbidden": ProblemKind(403, "Access denied"),
    "not-found": ProblemKind(404, "Not found"),
    "method-not-allowed": ProblemKind(405, "Method not allowed"),
    "request-timeout": ProblemKind(408, "Request timeout"),
    "out-of-stock": ProblemKind(409, "Out of stock"),
    "request-in-progress": ProblemKind(
        409, "The first request with this idempotency key is still running", retry_after=1
    ),
    "already-exists": ProblemKind(409, "Already exists"),
    "conflict": ProblemKind(409, "Conflict with the current state"),
    "payload-too-large": ProblemKind(413, "Request body too large"),
    "unsupported-media-type": ProblemKind(415, "Unsupported media type"),
    "validation-failed": ProblemKind(422, "Invalid request"),
    "idempotency-key-reused": ProblemKind(422, "The idempotency key was used for another request"),
    "rate-limited": ProblemKind(429, "Too many requests", retry_after=1),
    "internal": ProblemKind(500, "Internal error"),
    "unavailable": ProblemKind(503, "Service unavailable", retry_after=1),
    "deadline-exceeded": ProblemKind(504, "Deadline exceeded", retry_after=1),
}
_SERVICE_CODES = frozenset(PROBLEM_KINDS) - {"internal"}
"""Codes that a service may answer with. An internal error is only ever the gateway's own."""
_ROUTER_CODES = {404: "not-found", 405: "method-not-allowed", 400: "validation-failed"}
_MAX_ERRORS = 20
_UNION_TAGS = frozenset({"short", "lines"})
"""Tags of `requests.PlaceOrder`, which Pydantic puts into the location of an error."""


class Problem(HTTPException):
    """A response that is not a success. Any layer may raise it. `code` is a key of PROBLEM_KINDS."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Iterable[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.errors = list(errors)
        super().__init__(PROBLEM_KINDS[code].status, detail, dict(headers or {}))

    def body(self, instance: str | None = None) -> bytes:
        kind = PROBLEM_KINDS[self.code]
        members: dict[str, Any] = {
            "type": f"urn:mycelium:problem:{self.code}",
            "title": kind.title,
            "status": kind.status,
            "code": self.code,
            "detail": self.detail,
        }
        if instance is not None:
            members["instance"] = instance
        if self.errors:
            members["errors"] = self.errors
        return orjson.dumps(members)

    def response(self, path: str | None = None) -> Response:
        headers = dict(self.headers or {})
        if self.status_code == 401:
            headers.setdefault("WWW-Authenticate", "Bearer")
        if (seconds := PROBLEM_KINDS[self.code].retry_after) is not None:
            headers.setdefault("Retry-After", str(seconds))
        body = self.body(None if path is None else quote(path[:200]))
        return Response(body, self.status_code, headers, media_type="application/problem+json")


def invalid_field(field: str, message: str) -> Problem:
    """Return the problem of a request with one invalid field."""
    return Problem("validation-failed", f"{field}: {message}", errors=[{"field": field, "message": message}])


def problem_from_error(error: MeshError) -> Problem:
    """Return the problem of a failed call, with no more than its caller may know.

    A service never causes a 500.
    """
    if isinstance(error, Refused) and error.slug in _SERVICE_CODES:
        if error.field is None:
            return Problem(error.slug, error.message)
        message = error.message.removeprefix(f"{error.field}: ")
        errors = [{"field": error.field, "message": message}]
        return Problem(error.slug, f"{error.field}: {message}", errors=errors)
    if isinstance(error, DeadlineExceeded):
        return Problem(
            "deadline-exceeded",
            "no response arrived in time; the operation may or may not have been carried out",
        )
    if isinstance(error, Unavailable):
        return Problem("unavailable", "the service is unavailable; try again shortly")
    return Problem("unavailable", "the service failed; try again shortly")


def problem_from_validation(errors: Iterable[Any]) -> Problem:
    """Return the problem for errors of Pydantic. Each names the field as the client wrote it."""
    field_errors = [
        {"field": _field(error), "message": str(error["msg"]).removeprefix("Value error, ")}
        for error in islice(errors, _MAX_ERRORS)
    ]
    detail = f"{field_errors[0]['field']}: {field_errors[0]['message']}"
    return Problem("validation-failed", detail, errors=field_errors)


def _field(error: Mapping[str, Any]) -> str:
    """Return the path of a field in the notation of the services: `items[0].quantity`."""
    location = list(error["loc"])
    if location and location[0] in {"body", "query", "path", "header"}:
        del location[0]
    if location and location[0] in _UNION_TAGS:
        del location[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "body"


async def handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not isinstance(error, Problem):
        code = _ROUTER_CODES.get(error.status_code, "internal")
        detail, headers = error.detail, dict(error.headers or {})
        if code == "not-found":
            detail = f"there is no resource {request.url.path[:200]}"
        elif code == "method-not-allowed":
            headers["Allow"] = _allowed(request) or headers["Allow"]
            detail = f"{request.url.path[:200]} allows only {headers['Allow']}"
        error = Problem(code, detail, headers=headers)
    return error.response(request.url.path)


def _allowed(request: Request) -> str:
    """Return all methods of a path. The router knows only the methods of the first matching route."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    matching = (methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path))
    return ", ".join(sorted({method.upper() for methods in matching for method in methods}))


async def handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_from_validation(error.errors()).response(request.url.path)


async def handle_mesh_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MeshError)
    log_failure(error, request.state.request_id)
    return problem_from_error(error).response(request.url.path)


def log_failure(error: MeshError, request_id: str) -> None:
    """Log an error whose cause the response leaves out. A refusal is not logged: its caller learns all."""
    if not isinstance(error, Refused) or error.slug not in _SERVICE_CODES:
        log.warning("request %s: %s: %s", request_id, type(error).__name__, error)


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: handle_http_exception,
    RequestValidationError: handle_validation_error,
    MeshError: handle_mesh_error,
}
