"""The application, built from its parts. No other module wires parts together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from nameko_mesh.aio import Balancer, Breaker, GuardedRpc

from .auth.login_throttle import LoginThrottle
from .auth.tokens import Tokens
from .clients.batching import BatcherFactory
from .clients.connect import connect, products_over_grpc
from .clients.orders import Orders
from .clients.products import Products
from .clients.stale_cache import StaleCache
from .clients.users import Users
from .consul import ConsulRegistration
from .fast_path import FastPath, refuse_other_middleware
from .lifecycle import Lifecycle, Mesh
from .metrics import Metrics, MetricsMiddleware
from .order_events.feed import ORDER_EVENTS, OrderFeed
from .routes import auth, docs, health, orders, products, users
from .routes.dependencies import Gateway
from .routes.responses import ANY_PROBLEM
from .settings import Settings, load_settings
from .web.json_body import add_schemas
from .web.problems import EXCEPTION_HANDLERS
from .web.request_limits import BodyLimit, RequestLimits

DESCRIPTION = """Takes orders for a mesh of Nameko services.

Errors are problem details (RFC 9457) with a stable `code`. Amounts of money are the integers `price_minor`
and `total_minor`, in the minor unit of `currency`. `price` and `total_price` are for display. Every response
has an `X-Request-Id`."""

_MAX_INSTANCE_FAILURES = 3
"""Failures in a row that open the breaker of an instance: fewer than for a service, for others can answer."""

_CORS_REQUEST_HEADERS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "X-Request-Id",
    "X-Request-Timeout",
]
_CORS_RESPONSE_HEADERS = ["Age", "Location", "Idempotency-Key", "X-Request-Id", "Retry-After"]

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class _Application(FastAPI):
    """FastAPI behind the fast path. It refuses at start any middleware that the fast path would bypass."""

    fast_path: FastPath

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware_stack is None and scope["type"] != "lifespan":
            refuse_other_middleware(self.user_middleware)  # for a server that runs no lifespan
        scope["app"] = self
        await self.fast_path(scope, receive, send)

    async def without_fast_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer all routes."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = add_schemas(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings | None = None, mesh: Mesh | None = None) -> FastAPI:
    """Return the gateway. Its lifespan connects it. Raises SettingsError.

    `uvicorn --factory gateway.app:create_app` serves it as well. Only `python -m gateway` ends the streams of
    orders on SIGTERM and leaves Consul before it drains.
    """
    settings = settings or load_settings()
    mesh = mesh or connect(settings)
    metrics = Metrics()
    feed = OrderFeed(settings.GATEWAY_STREAMS, partial(mesh.subscribe, "orders", ORDER_EVENTS))
    agent = settings.CONSUL_HTTP_ADDR
    lifecycle = Lifecycle(mesh, feed, ConsulRegistration(settings, agent) if agent else None)
    gateway = _make_gateway(settings, mesh, feed, metrics)
    app = _Application(
        title="Mycelium",
        version="1",
        description=DESCRIPTION,
        lifespan=_make_lifespan(gateway, lifecycle, metrics),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
        responses=ANY_PROBLEM,
    )
    app.state.lifecycle = lifecycle
    app.state.gateway = gateway
    for module in (orders, products, users, auth, health, docs):
        app.include_router(module.router)
    app.router.routes.append(docs.assets())
    _add_middleware(app, settings, metrics)
    return app


def _make_gateway(settings: Settings, mesh: Mesh, feed: OrderFeed, metrics: Metrics) -> Gateway:
    batchers = BatcherFactory(settings.GATEWAY_BATCH, settings.GATEWAY_LANES, metrics.on_batch)
    make_breaker = partial(Breaker, max_in_flight=settings.GATEWAY_CALLS_PER_TARGET)
    rpc = GuardedRpc(mesh, make_breaker=make_breaker)
    balancer = Balancer("products", make_breaker=partial(make_breaker, max_failures=_MAX_INSTANCE_FAILURES))
    metrics.watch(rpc, balancer)
    return Gateway(
        settings=settings,
        tokens=Tokens(settings.secret, settings.GATEWAY_TOKEN_SECONDS),
        throttle=LoginThrottle(
            settings.GATEWAY_LOGINS_PER_ACCOUNT,
            settings.GATEWAY_LOGINS_PER_ADDRESS,
            instances=settings.GATEWAY_INSTANCES,
        ),
        products=Products(
            rpc,
            batchers,
            grpc=products_over_grpc(settings, balancer),
            cache=StaleCache(settings.GATEWAY_STALE_SECONDS),
            on_fallback=metrics.on_fallback,
        ),
        users=Users(rpc),
        orders=Orders(rpc, batchers),
        feed=feed,
    )


def _make_lifespan(gateway: Gateway, lifecycle: Lifecycle, metrics: Metrics) -> Lifespan:
    settings = gateway.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refuse_other_middleware(app.user_middleware)
        with ExitStack() as stack:
            if settings.GATEWAY_METRICS_PORT is not None:
                stack.enter_context(
                    metrics.serve(settings.GATEWAY_METRICS_HOST, settings.GATEWAY_METRICS_PORT)
                )
            await lifecycle.start()
            gateway.products.start()
            try:
                yield
            finally:
                await lifecycle.drain()
                await gateway.products.stop()
                await gateway.orders.stop()
                await lifecycle.stop()

    return lifespan


def _add_middleware(app: _Application, settings: Settings, metrics: Metrics) -> None:
    """Add the middleware, the innermost first, and the fast path in front of it."""
    if settings.GATEWAY_CORS_ORIGINS:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.GATEWAY_CORS_ORIGINS,
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
        )
    body_limit = BodyLimit(settings.GATEWAY_BODY_BYTES, settings.GATEWAY_BODY_SECONDS)
    app.add_middleware(RequestLimits, body_limit=body_limit)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.fast_path = FastPath(
        app.without_fast_path,
        handlers=app.exception_handlers,  # type: ignore[arg-type]  # ours are coroutine functions
        metrics=metrics,
        body_limit=body_limit,
        headers=[(b"vary", b"Origin")] if settings.GATEWAY_CORS_ORIGINS else [],
    )
