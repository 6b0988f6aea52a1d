"""Middleware around FastAPI: request ids, limits of the body, headers of every response, and crashes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem

log = logging.getLogger(__name__)

_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that no header may contain (RFC 9110, section 5.5)."""
_DISCARD_FACTOR = 8
"""Times the limit that is read and discarded of a body that is too large. Then the connection closes."""
_PERSONAL = ("/auth", "/users", "/orders")
"""Paths whose responses no cache may keep."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

Headers = Iterable[tuple[bytes, bytes]]
"""ASGI headers: the names are in lower case."""


class BodyLimit:
    """The size of a body in bytes, and the time in seconds in which it must arrive."""

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    def deadline(self) -> float:
        """Return the deadline of a body that begins now, on the clock of the event loop."""
        return asyncio.get_running_loop().time() + self._max_seconds

    def is_exceeded_by(self, content_length: bytes) -> bool:
        """Return True for a `Content-Length` above the limit."""
        return content_length.isdigit() and int(content_length) > self._max_bytes

    def apply(self, receive: Receive, deadline: float) -> Receive:
        """Return a `receive` that raises Problem when the body is too large or too late."""
        size = 0
        complete = False

        async def receive_limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            message = await self._receive_in_time(receive, deadline)
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._max_bytes:
                if not complete:
                    await self.discard(receive, deadline)
                raise self.too_large()
            return message

        return receive_limited

    async def _receive_in_time(self, receive: Receive, deadline: float) -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                return await receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._max_seconds:g} s"
            raise Problem("request-timeout", detail, headers={"Connection": "close"}) from None

    async def discard(self, receive: Receive, deadline: float) -> None:
        """Read the rest of a body, up to a bound, so that its client gets the response.

        If the server closed the connection while the client still sends, the response would be lost
        (RFC 9112, section 9.6).
        """
        remaining = _DISCARD_FACTOR * self._max_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while remaining > 0:
                    message = await receive()
                    remaining -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def too_large(self) -> Problem:
        detail = f"body: expected at most {self._max_bytes} bytes"
        return Problem("payload-too-large", detail, headers={"Connection": "close"})


class RequestLimits:
    """ASGI middleware. It sets `state.request_id` for the layers inside.

    A body that exceeds the limit raises a Problem where it is read. The layers inside turn the Problem into a
    response. A `Content-Length` above the limit is refused here.
    """

    def __init__(self, app: ASGIApp, body_limit: BodyLimit) -> None:
        self._app = app
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        own_id = request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = own_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                message["headers"] = headers + headers_to_add(headers, scope["path"], own_id)
                started = True
            await send(message)

        try:
            await self._respond(scope, receive, send_with_headers)
        except Exception:
            response = internal_error_response(scope, own_id)
            if started:
                raise
            await response(scope, receive, send_with_headers)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        deadline = self._body_limit.deadline()
        if not self._body_limit.is_exceeded_by(headers.get(b"content-length", b"")):
            await self._app(scope, self._body_limit.apply(receive, deadline), send)
            return
        if b"expect" not in headers:  # with `Expect: 100-continue` the client has not sent the body yet
            await self._body_limit.discard(receive, deadline)
        await self._body_limit.too_large().response(scope["path"])(scope, receive, send)


def _without_body(send: Send) -> Send:
    """Return a `send` for HEAD: the response to GET without its content (RFC 9110, section 9.3.2)."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def request_id(headers: Headers) -> str:
    """Return the client's `X-Request-Id` if it is valid, or else a random id."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return os.urandom(16).hex()


def headers_to_add(headers: Headers, path: str, own_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that every response gets in addition to its own `headers`.

    Raises ValueError for a header with a control character: the server would only close the connection.
    """
    if _CONTROLS.search(b"".join([value for _, value in headers])):
        raise ValueError("a header of the response contains a line break or another control character")
    added = [(b"x-request-id", own_id.encode()), (b"x-content-type-options", b"nosniff")]
    if path.startswith(_PERSONAL):
        for name, _ in headers:
            if name == b"cache-control":
                return added
        added.append((b"cache-control", b"no-store"))
    return added


def internal_error_response(scope: Scope, own_id: str) -> Response:
    """Log the present exception and return a problem with status 500.

    The server would answer too, but in plain text and without the request's id.
    """
    log.exception("request %s failed: %s %s", own_id, scope["method"], scope["path"])
    return Problem("internal", f"the error is logged under the request id {own_id}").response(scope["path"])
