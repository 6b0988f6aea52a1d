"""Errors as HTTP tells them: RFC 9457 problems, and the one table from codes to statuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
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
    """What all problems of one code have in common; `retry_after` is in seconds."""

    status: int
    title: str
    retry_after: int | None = None


PROBLEM_KINDS: Mapping[str, ProblemKind] = {
    "unauthenticated": ProblemKind(401, "Who you are is not known"),
    "forbidden": ProblemKind(403, "Not allowed"),
    "not-found": ProblemKind(404, "Not found"),
    "method-not-allowed": ProblemKind(405, "Method not allowed"),
    "request-timeout": ProblemKind(408, "The request took too long to arrive"),
    "out-of-stock": ProblemKind(409, "Out of stock"),
    "request-in-progress": ProblemKind(409, "The same request is still running", retry_after=1),
    "already-exists": ProblemKind(409, "Already exists"),
    "conflict": ProblemKind(409, "Conflict with the present state"),
    "payload-too-large": ProblemKind(413, "The body is too large"),
    "unsupported-media-type": ProblemKind(415, "Unsupported media type"),
    "validation-failed": ProblemKind(422, "The request is not valid"),
    "idempotency-key-reused": ProblemKind(422, "The idempotency key belongs to another request"),
    "rate-limited": ProblemKind(429, "Too many requests", retry_after=1),
    "internal": ProblemKind(500, "Something broke here"),
    "unavailable": ProblemKind(503, "Not available now", retry_after=1),
    "deadline-exceeded": ProblemKind(504, "No answer in time", retry_after=1),
}
_SERVICE_CODES = frozenset(PROBLEM_KINDS) - {"internal"}
_ROUTER_CODES = {404: "not-found", 405: "method-not-allowed", 400: "validation-failed"}
_MAX_ERRORS = 20
_TAGS = frozenset({"one", "lines"})


class Problem(HTTPException):
    """An answer that is not a success. Any layer may raise it; `code` is a key of PROBLEM_KINDS."""

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
    """A request refused for one field of it."""
    return Problem("validation-failed", f"{field}: {message}", errors=[{"field": field, "message": message}])


def problem_from_error(error: MeshError) -> Problem:
    """What a caller may know of an error behind the gateway. Nothing a peer does becomes a 500."""
    if isinstance(error, Refused) and error.slug in _SERVICE_CODES:
        if error.field is None:
            return Problem(error.slug, error.message)
        message = error.message.removeprefix(f"{error.field}: ")
        told = [{"field": error.field, "message": message}]
        return Problem(error.slug, f"{error.field}: {message}", errors=told)
    if isinstance(error, DeadlineExceeded):
        return Problem("deadline-exceeded", "no answer arrived in time; whether it was done is not known")
    if isinstance(error, Unavailable):
        return Problem("unavailable", "the service can't be asked now; try again shortly")
    return Problem("unavailable", "the service broke while it worked on this; try again shortly")


def problem_from_validation(errors: Iterable[Any]) -> Problem:
    """The problem for what Pydantic found, each with the field as the client wrote it."""
    found = [
        {"field": _field(each), "message": str(each["msg"]).removeprefix("Value error, ")} for each in errors
    ][:_MAX_ERRORS]
    detail = f"{found[0]['field']}: {found[0]['message']}"
    return Problem("validation-failed", detail, errors=found)


def _field(error: Mapping[str, Any]) -> str:
    """Where the mistake is, as the services write it too: `items[0].quantity`."""
    location = list(error["loc"])
    if location and location[0] in {"body", "query", "path", "header"}:
        del location[0]
    if location and location[0] in _TAGS:  # which of two forms of a body it was taken for
        del location[0]
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return written.removeprefix(".") or "body"


async def handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not isinstance(error, Problem):
        code = _ROUTER_CODES.get(error.status_code, "internal")
        detail, headers = error.detail, dict(error.headers or {})
        if code == "not-found":
            detail = f"there is no {request.url.path[:200]} here"
        elif code == "method-not-allowed":
            headers["Allow"] = _allowed(request) or headers["Allow"]
            detail = f"only {headers['Allow']} can be asked of {request.url.path[:200]}"
        error = Problem(code, detail, headers=headers)
    return error.response(request.url.path)


def _allowed(request: Request) -> str:
    """All methods of a path; the router itself knows those of the first route alone."""
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
    """Log what the caller is not told. A refusal is the caller's own affair."""
    if not isinstance(error, Refused) or error.slug not in _SERVICE_CODES:
        log.warning("request %s: %s: %s", request_id, type(error).__name__, error)


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: handle_http_exception,
    RequestValidationError: handle_validation_error,
    MeshError: handle_mesh_error,
}
