"""The outermost layer: every request gets an id and bounds, every answer headers, every crash a problem."""

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
_DISCARDED = 8
"""How many times the limit is read and thrown away before the connection is closed."""
_PERSONAL = ("/auth", "/users", "/orders")
"""Paths whose answers must not stay in anybody's cache."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, as ASGI has them."""


class BodyLimit:
    """The bytes that a body may have, and the seconds that its arrival may take."""

    def __init__(self, body_bytes: int, body_seconds: float) -> None:
        self._bytes = body_bytes
        self._seconds = body_seconds

    def ends(self) -> float:
        """The time of the event loop when a body that begins now has to be complete."""
        return asyncio.get_running_loop().time() + self._seconds

    def is_exceeded_by(self, announced: bytes) -> bool:
        """True for a `Content-Length` of too many bytes."""
        return announced.isdigit() and int(announced) > self._bytes

    def bounded(self, receive: Receive, ends: float) -> Receive:
        """Receives the same messages. Raises Problem when the body is too large or takes too long."""
        size = 0
        complete = False

        async def bounded() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                detail = f"the body has to arrive within {self._seconds:g} s"
                raise Problem("request-timeout", detail, headers={"Connection": "close"}) from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._bytes:
                if not complete:
                    await self.discard(receive, ends)
                raise self.too_large()
            return message

        return bounded

    async def discard(self, receive: Receive, ends: float) -> None:
        """Let a client end its body, within reason: a connection that is closed while one side still
        sends is reset, and takes the answer with it (RFC 9112, section 9.6)."""
        left = _DISCARDED * self._bytes
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def too_large(self) -> Problem:
        detail = f"body: it may have {self._bytes} bytes at most"
        return Problem("payload-too-large", detail, headers={"Connection": "close"})


class RequestLimits:
    """Pure ASGI. `state.request_id` is there for all that follows.

    A body may have `body_bytes` and take `body_seconds`, told or not told its length: reading more
    of it raises a Problem, which the layers inside turn into an answer like any other.
    """

    def __init__(self, app: ASGIApp, body_bytes: int, body_seconds: float) -> None:
        self._app = app
        self._body = BodyLimit(body_bytes, body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        own_id = request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = own_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                sent = list(message["headers"])
                message["headers"] = sent + headers_to_add(sent, scope["path"], own_id)
                started = True
            await send(message)

        try:
            ends = self._body.ends()
            if self._body.is_exceeded_by(headers.get(b"content-length", b"")):
                if b"expect" not in headers:  # who asks before sending is told before sending
                    await self._body.discard(receive, ends)
                await self._body.too_large().response(scope["path"])(scope, receive, send_with_headers)
                return
            await self._app(scope, self._body.bounded(receive, ends), send_with_headers)
        except Exception:
            answer = internal_error_response(scope, own_id)
            if started:
                raise
            await answer(scope, receive, send_with_headers)


def _without_body(send: Send) -> Send:
    """What GET answers, less its content (RFC 9110, section 9.3.2)."""

    async def heads_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return heads_only


def request_id(headers: Headers) -> str:
    """The client's own, if it is one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return os.urandom(16).hex()


def headers_to_add(sent: Headers, path: str, own_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that every answer carries beside those that were `sent` with it.

    Raises ValueError for a header with a control character: the server would only close the connection.
    """
    if _CONTROLS.search(b"".join([value for _, value in sent])):
        raise ValueError("a header of the answer contains a line break or another control character")
    added = [(b"x-request-id", own_id.encode()), (b"x-content-type-options", b"nosniff")]
    if path.startswith(_PERSONAL):
        for name, _ in sent:
            if name == b"cache-control":
                return added
        added.append((b"cache-control", b"no-store"))
    return added


def internal_error_response(scope: Scope, own_id: str) -> Response:
    """Logs the error in hand, and answers that something broke. The server would answer too, but in plain
    text and without the request's id."""
    log.exception("request %s broke: %s %s", own_id, scope["method"], scope["path"])
    return Problem("internal", f"it is logged under the request id {own_id}").response(scope["path"])
