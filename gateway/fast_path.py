"""A faster way through the two busiest routes: POST /orders and GET /products/{id}.

What it does: FastPath stands in front of FastAPI and answers these two routes itself. Each has a handler
below, which calls the same functions as FastAPI's route, in the same order. FastAPI answers all other
requests.

Why: FastAPI resolves the dependencies of a route anew for each request, behind eight layers of middleware.
That costs more than the gateway's own code.

What it gains: an order costs 44 us of CPU instead of 218. A read costs 20 us instead of 172. Server and
services are not included. To measure again:

    python -m bench.tricks.gateway

The whole system, on two cores (orders/s at 64 and at 256 clients, reads/s at 64 clients):

    plain FastAPI    3,350    3,743     5,213
    the fast path    4,045    5,650    15,104

When to delete it: when plain FastAPI serves nine tenths of the rates of the fast path. FastAPI has both
routes as well, so nothing else changes.

An example: `GET /products/P001` matches the second route. `_show_product` checks the id, starts the deadline
and calls the endpoint `show_product`. FastPath adds the headers that RequestLimits adds, sends the response
and counts the request as MetricsMiddleware does. `POST /products/P001/restock` matches no route here, so
FastAPI gets it unchanged.

Middleware stands behind FastPath. FastPath does the work of MetricsMiddleware, RequestLimits and
CORSMiddleware for its own routes. The application does not start with any other middleware: see
`refuse_other_middleware`. FastAPI's `dependency_overrides` and its telemetry do not act here.

tests/unit/gateway/test_gateway_fast_path.py compares the responses with FastAPI's, byte for byte. It fails
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
from .metrics import Metrics, MetricsMiddleware
from .routes.dependencies import current_gateway, idempotency_key, product_id, request_context
from .routes.orders import order_body, place_order
from .routes.products import show_product
from .web.request_limits import (
    BodyLimit,
    Headers,
    RequestLimits,
    headers_to_add,
    internal_error_response,
    request_id,
)

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
    """Return the first header of this name, as FastAPI does."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


FAST_PATH_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/orders", _place_order),
    ("GET", "/products/{id}", _show_product),
)

_REPLACED: tuple[Any, ...] = (MetricsMiddleware, RequestLimits, CORSMiddleware)
"""Middleware whose work FastPath does itself. A request with `Origin` goes to FastAPI and CORSMiddleware."""


def refuse_other_middleware(middleware: Iterable[Middleware]) -> None:
    """Raise RuntimeError for middleware that would not act on the routes of the fast path."""
    for layer in middleware:
        if layer.cls not in _REPLACED:
            name = getattr(layer.cls, "__name__", repr(layer.cls))
            routes = " and ".join(f"{method} {path}" for method, path, _ in FAST_PATH_ROUTES)
            raise RuntimeError(
                f"the middleware {name} would not act on {routes}, which the fast path answers: "
                "do its work in gateway/fast_path.py as well, and add it to _REPLACED there"
            )


@dataclass(frozen=True, slots=True)
class _Route:
    """A route of the fast path. `template` is its path in the metrics."""

    template: str
    pattern: Pattern[str]
    handle: Handler


class FastPath:
    """ASGI application that answers `routes` by their handlers, and passes other requests on to `app`.

    `handlers` maps exception classes to the coroutine functions that answer them. `headers` are the headers
    that CORSMiddleware adds to the response to a request without `Origin`.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[tuple[str, str, Handler]] = FAST_PATH_ROUTES,
        *,
        handlers: Mapping[Any, Callable[[Request, Any], Awaitable[Response]]],
        metrics: Metrics,
        body_limit: BodyLimit,
        headers: Headers = (),
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._metrics = metrics
        self._body_limit = body_limit
        self._headers = list(headers)
        self._routes: dict[str, list[_Route]] = {}
        for method, path, handle in routes:
            self._routes.setdefault(method, []).append(_Route(path, compile_path(path)[0], handle))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._match(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        self._metrics.in_flight += 1
        status = 500
        try:
            response, headers = await self._respond(route, scope, receive)
            status = response.status_code
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": response.body})
        finally:
            self._metrics.in_flight -= 1
            self._metrics.observe(scope["method"], route.template, status, perf_counter() - started)

    def _match(self, scope: Scope) -> _Route | None:
        """Return the route of a request and put the path's parameters into the scope.

        None leaves the request to FastAPI. It is for another route, it has an `Origin`, or its
        `Content-Length` is too large.
        """
        for route in self._routes.get(scope["method"], ()):
            if match := route.pattern.match(scope["path"]):
                for name, value in scope["headers"]:
                    if name == b"origin":
                        return None
                    if name == b"content-length" and self._body_limit.is_exceeded_by(value):
                        return None
                scope["path_params"] = match.groupdict()
                return route
        return None

    async def _respond(
        self, route: _Route, scope: Scope, receive: Receive
    ) -> tuple[Response, list[tuple[bytes, bytes]]]:
        """Return the response, and all headers to send with it."""
        path = scope["path"]
        own_id = scope.setdefault("state", {})["request_id"] = request_id(scope["headers"])
        if scope["method"] != "GET":
            receive = self._body_limit.apply(receive, self._body_limit.deadline())
        try:
            response = await self._handle(route.handle, Request(scope, receive))
            headers = response.raw_headers + self._headers
            return response, headers + headers_to_add(headers, path, own_id)
        except Exception:
            response = internal_error_response(scope, own_id)
            return response, response.raw_headers + headers_to_add(response.raw_headers, path, own_id)

    async def _handle(self, handle: Handler, request: Request) -> Response:
        """Return the handler's response, or the response to the exception that it raised."""
        try:
            return await handle(request)
        except Exception as error:
            for error_class in type(error).__mro__:
                if error_class in self._handlers:
                    return await self._handlers[error_class](request, error)
            raise
