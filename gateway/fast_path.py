"""A faster way through the two busiest routes: POST /orders and GET /products/{id}.

What it does: FastPath stands in front of FastAPI and answers these two routes itself. Each has a handler
below, which calls the same functions as FastAPI's route, in the same order. FastAPI answers everything else.

Why: FastAPI solves the dependencies of a route anew for each request, behind eight layers of middleware.
That costs more than our own code.

What it gained, on two cores (orders/s at 64 and at 256 clients, reads/s at 64 clients):

    plain FastAPI    3,350    3,743     5,213
    this front       4,045    5,650    15,104

To measure it again, let `_Application.__call__` in gateway/app.py call `without_fast_path`, and compare

    make bench ARGS='--only orders,reads'

When to delete it: when plain FastAPI serves nine tenths of these rates. FastAPI has both routes as well, so
nothing else changes.

An example: `GET /products/P001` matches the second route. `_show_product` checks the id, starts the deadline
and calls the endpoint `show_product`. FastPath adds the headers that Edge adds, sends the answer and counts
the request as Metered does. `POST /products/P001/restock` matches nothing, and FastAPI gets it untouched.

Middleware stands behind FastPath, so FastPath does the work of Metered, Edge and CORSMiddleware for its own
routes. The application does not start with any other middleware: see `refuse_other_middleware`. FastAPI's
`dependency_overrides` and its telemetry do not act here.

tests/unit/gateway/test_gateway_fast_path.py compares the answers with FastAPI's, byte for byte. It fails
when a route gets a dependency that its handler lacks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from re import Pattern
from time import perf_counter
from typing import Any

from fastapi import Request
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from .auth.tokens import bearer, caller
from .metrics import Metered, Metrics
from .routes.dependencies import current_gateway, idempotency_key, product_id, request_context
from .routes.orders import order_body, place_order
from .routes.products import show_product
from .web.request_limits import BodyLimit, Edge, Headers, added_headers, broken, request_id

Handler = Callable[[Request], Awaitable[Response]]


async def _place_order(request: Request) -> Response:
    identity = await caller(request, await bearer(request))
    key = await idempotency_key(_header(request, b"idempotency-key"))
    body = await order_body(request)
    gateway = await current_gateway(request)
    context = await request_context(request, _header(request, b"x-request-timeout"))
    return await place_order(identity, key, body, gateway, context)


async def _show_product(request: Request) -> Response:
    id = await product_id(request.path_params["id"])
    gateway = await current_gateway(request)
    context = await request_context(request, _header(request, b"x-request-timeout"))
    return await show_product(id, gateway, context)


def _header(request: Request, name: bytes) -> str | None:
    """The first header of this name, as FastAPI reads it."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


FAST_PATH_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/orders", _place_order),
    ("GET", "/products/{id}", _show_product),
)

_REPLACED: tuple[Any, ...] = (Metered, Edge, CORSMiddleware)
"""Middleware whose work FastPath does itself. It passes on what CORSMiddleware reads: a header `Origin`."""


def refuse_other_middleware(middleware: Iterable[Middleware]) -> None:
    """Raises RuntimeError for middleware that would not act on the routes of the fast path."""
    for each in middleware:
        if each.cls not in _REPLACED:
            name = getattr(each.cls, "__name__", repr(each.cls))
            routes = " and ".join(f"{method} {path}" for method, path, _ in FAST_PATH_ROUTES)
            raise RuntimeError(
                f"the middleware {name} would not act on {routes}, which the fast path answers: "
                "do its work in gateway/fast_path.py as well, and add it to _REPLACED there"
            )


@dataclass(frozen=True, slots=True)
class _Route:
    """`template` is the path that the metrics show."""

    template: str
    pattern: Pattern[str]
    handle: Handler


class FastPath:
    """Pure ASGI. Answers `routes` by their handlers, and passes everything else on to `app`.

    `handlers` are the coroutine functions that answer exceptions, by class. `headers` are those that
    CORSMiddleware adds to the answer of a request without `Origin`.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[tuple[str, str, Handler]] = FAST_PATH_ROUTES,
        *,
        handlers: Mapping[Any, Callable[[Request, Any], Awaitable[Response]]],
        metrics: Metrics,
        body: BodyLimit,
        headers: Headers = (),
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._metrics = metrics
        self._body = body
        self._headers = list(headers)
        self._routes: dict[str, list[_Route]] = {}
        for method, path, handle in routes:
            self._routes.setdefault(method, []).append(_Route(path, compile_path(path)[0], handle))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        self._metrics.in_flight += 1
        status = 500
        try:
            response, headers = await self._answer(route, scope, receive)
            status = response.status_code
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": response.body})
        finally:
            self._metrics.in_flight -= 1
            self._metrics.observe(scope["method"], route.template, status, perf_counter() - started)

    def _find(self, scope: Scope) -> _Route | None:
        """The route of a request, its parameters in the scope. None leaves the request to FastAPI: another
        route, a script of another origin, or a body whose announced length is too large."""
        for route in self._routes.get(scope["method"], ()):
            if found := route.pattern.match(scope["path"]):
                for name, value in scope["headers"]:
                    if name == b"origin" or (name == b"content-length" and self._body.is_exceeded_by(value)):
                        return None
                scope["path_params"] = found.groupdict()
                return route
        return None

    async def _answer(
        self, route: _Route, scope: Scope, receive: Receive
    ) -> tuple[Response, list[tuple[bytes, bytes]]]:
        """The response, with all headers that leave with it."""
        path = scope["path"]
        own_id = scope.setdefault("state", {})["request_id"] = request_id(scope["headers"])
        if scope["method"] != "GET":
            receive = self._body.bounded(receive, self._body.ends())
        try:
            response = await self._respond(route.handle, Request(scope, receive))
            headers = response.raw_headers + self._headers
            return response, headers + added_headers(headers, path, own_id)
        except Exception:
            response = broken(scope, own_id)
            return response, response.raw_headers + added_headers(response.raw_headers, path, own_id)

    async def _respond(self, handle: Handler, request: Request) -> Response:
        """The handler's answer, or the answer to the exception that it raised."""
        try:
            return await handle(request)
        except Exception as error:
            for kind in type(error).__mro__:
                if kind in self._handlers:
                    return await self._handlers[kind](request, error)
            raise
