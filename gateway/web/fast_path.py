"""What is asked for most, answered at the server's door.

A request for one of these routes that is there whole is answered from a plan that is made once, and its
answer leaves in one write: at a fraction of what an ASGI conversation costs and FastAPI spends on solving
the same dependencies anew. Whatever is out of the ordinary (a body that is still to come or too large, a
script of another origin) goes the way of all requests, for FastAPI has these routes as well and answers
the same. What a plan can't have is refused when it is made, not when it is used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, iscoroutinefunction, signature
from re import Pattern
from time import perf_counter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import FastAPI, Request
from fastapi.params import Depends, Header, Path
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..metrics import Metrics
from .request_limits import added_headers, broken, request_id

Endpoint = Callable[..., Awaitable[Response]]

_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What no header may have in it (RFC 9110, section 5.5)."""


@dataclass(frozen=True, slots=True)
class _Route:
    path: str
    matches: Pattern[str]
    answer: Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """Routes of `app`, given as method, path and endpoint; `headers` is what its middleware adds to all
    answers. Raises TypeError for an endpoint with a parameter that no plan can provide."""

    def __init__(
        self,
        app: FastAPI,
        routes: Iterable[tuple[str, str, Endpoint]],
        *,
        handlers: Mapping[Any, Callable[..., Any]],
        metrics: Metrics,
        body_bytes: int,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._headers = list(headers)
        self._routes: dict[str, list[_Route]] = {}
        for method, path, endpoint in routes:
            route = _Route(path, compile_path(path)[0], _Plan(endpoint).answer)
            self._routes.setdefault(method, []).append(route)

    def find(self, scope: Any, body: bytes | bytearray) -> _Route | None:
        """The route of a request, with its parameters in the scope; None if it is not for this way."""
        for route in self._routes.get(scope["method"], ()):
            if found := route.matches.match(scope["path"]):
                if len(body) > self._body_bytes:
                    return None
                for name, _ in scope["headers"]:
                    if name == b"origin":
                        return None
                scope["path_params"] = found.groupdict()
                return route
        return None

    async def answer(self, route: _Route, cycle: RequestResponseCycle) -> bytes:
        """All that goes out. An error is an answer, too."""
        began = perf_counter()
        self._metrics.in_flight += 1
        status = 500
        scope: Any = cycle.scope
        scope["app"] = self._app
        own_id = scope["state"]["request_id"] = request_id(scope["headers"])
        try:
            response = await self._respond(route, Request(scope, _receive(bytes(cycle.body))))
            whole = self._whole(response, cycle, own_id)
            status = response.status_code
            return whole
        except Exception:
            return self._whole(broken(scope, own_id), cycle, own_id)
        finally:
            self._metrics.in_flight -= 1
            self._metrics.observe(scope["method"], route.path, status, perf_counter() - began)

    async def _respond(self, route: _Route, request: Request) -> Response:
        try:
            return await route.answer(request)
        except Exception as error:
            handle = next((self._handlers[one] for one in type(error).__mro__ if one in self._handlers), None)
            if handle is None:
                raise
            response: Response = await handle(request, error)
            return response

    def _whole(self, response: Response, cycle: RequestResponseCycle, own_id: str) -> bytes:
        """Status line, headers and body. Raises ValueError for a header with control characters: with a line
        break it would be two."""
        headers = cycle.default_headers + response.raw_headers + self._headers
        headers += added_headers(response.raw_headers, cycle.scope["path"], own_id)
        if not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b" % header for header in headers]
        if _CONTROLS.search(b"".join(lines)):
            raise ValueError("a header with a line break, or another control character, in it")
        return b"\r\n".join((STATUS_LINE[response.status_code] + lines[0], *lines[1:], b"", response.body))


def _receive(body: bytes) -> Callable[[], Awaitable[Message]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's, which hands over a request as soon as its headers have been read. This one reads to the
    end of the packet first: if all of the request was in it, it may be answered here."""

    def __init__(self, *args: Any, direct: DirectRoutes, **options: Any) -> None:
        super().__init__(*args, **options)
        self._direct = direct
        self._is_reading = False
        self._read: tuple[RequestResponseCycle, Any] | None = None
        """What is to be started once the packet has been read."""

    def data_received(self, data: bytes) -> None:
        self._is_reading = True
        try:
            super().data_received(data)
        finally:
            self._is_reading = False
            read, self._read = self._read, None
            if read is not None:
                self._start_asgi_task(*read)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._is_reading:
            self._read = cycle, app
            return
        route = None
        waits = cycle.more_body or cycle.waiting_for_100_continue or self.flow.write_paused
        if app is self.app and not waits:
            route = self._direct.find(cycle.scope, cycle.body)
        if route is None:
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(self._answer(route, cycle))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, route: _Route, cycle: RequestResponseCycle) -> None:
        try:
            answer = await self._direct.answer(route, cycle)
            if not cycle.disconnected:
                cycle.transport.write(answer)
            if not cycle.keep_alive:
                cycle.transport.close()
        except asyncio.CancelledError:  # the server leaves, and has waited long enough
            cycle.transport.close()
            raise
        finally:
            cycle.response_started = cycle.response_complete = True
            cycle.body = bytearray()
            cycle.on_response()
            cycle.on_response = _nothing  # or cycle and connection would hold each other


def _nothing() -> None:
    """There is nobody left to tell."""


class _Plan:
    """Calls an endpoint, and before it what it depends on, once each, in the order in which it is named.

    It is the code that one would write by hand; for POST /orders it begins with

        value_0 = await bearer(request=request)
        value_1 = await caller(request=request, token=value_0)
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._names: dict[str, Any] = {"header": _header}
        self._lines: list[str] = []
        self._known: dict[Any, str] = {}
        answer = self._call(endpoint)
        lines = ["async def answer(request):", *self._lines, f"return {answer}"]
        exec("\n    ".join(lines), self._names)  # noqa: S102 - it is made of our own names, and of no input
        self.answer: Callable[[Request], Awaitable[Response]] = self._names["answer"]

    def _call(self, call: Callable[..., Awaitable[Any]]) -> str:
        """The name of what it returns."""
        if call not in self._known:
            function = call if hasattr(call, "__code__") else type(call).__call__
            if not iscoroutinefunction(function):
                raise TypeError(f"a plan awaits what it calls, and {call} is not async")
            hints = get_type_hints(function, include_extras=True)
            arguments = [
                f"{name}={self._find(one, hints[name])}" for name, one in signature(call).parameters.items()
            ]
            number = len(self._known)
            self._names[f"call_{number}"] = call
            self._lines.append(f"value_{number} = await call_{number}({', '.join(arguments)})")
            self._known[call] = f"value_{number}"
        return self._known[call]

    def _find(self, parameter: Parameter, hint: Any) -> str:
        """The expression for one argument."""
        if isinstance(hint, type) and issubclass(Request, hint):
            return "request"
        *_, told = get_args(hint) if get_origin(hint) is Annotated else (None,)
        if isinstance(told, Depends) and told.dependency is not None:
            return self._call(told.dependency)
        if isinstance(told, Header) and told.alias and parameter.default is None:
            return f"header(request, {told.alias.lower().encode()!r})"
        if isinstance(told, Path):
            return f"request.path_params[{parameter.name!r}]"
        raise TypeError(f"no plan can provide {parameter}")


def _header(request: Request, name: bytes) -> str | None:
    """The first of that name, straight from what the server has read."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None
