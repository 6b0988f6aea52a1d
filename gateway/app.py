"""The application: everything is put together here, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
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
from .routes import ROUTERS, docs
from .routes.dependencies import Gateway
from .routes.responses import ANY_PROBLEM
from .settings import Settings, load_settings
from .web.json_body import add_schemas
from .web.problems import EXCEPTION_HANDLERS
from .web.request_limits import BodyLimit, RequestLimits

DESCRIPTION = """Takes orders for a mesh of Nameko services.

Errors are problems as RFC 9457 has them; `code` is stable. Money is `price_minor` or `total_minor`, an
integer, and `currency`; `price` and `total_price` say the same to people. Every answer has an
`X-Request-Id`."""


_MAX_INSTANCE_FAILURES = 3
"""Fewer in a row than a service is forgiven: there are others to ask."""


class _Application(FastAPI):
    """FastAPI behind the fast path. Middleware is refused at start when the fast path would bypass it."""

    fast_path: FastPath

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware_stack is None and scope["type"] != "lifespan":
            refuse_other_middleware(self.user_middleware)  # the server has no lifespan that could do it
        scope["app"] = self
        await self.fast_path(scope, receive, send)

    async def without_fast_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI alone, which answers all routes."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = add_schemas(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings | None = None, mesh: Mesh | None = None) -> FastAPI:
    """The gateway, not yet connected: its lifespan does that. Raises SettingsError.

    `uvicorn --factory gateway.app:create_app` serves it as well as `python -m gateway`, which alone ends
    followed orders on SIGTERM and leaves Consul before it drains. Both take the fast path
    (gateway.fast_path), which refuses middleware that it does not know.
    """
    settings = settings or load_settings()
    mesh = mesh or connect(settings)
    feed = OrderFeed(settings.GATEWAY_STREAMS, partial(mesh.subscribe, "orders", ORDER_EVENTS))
    agent = settings.CONSUL_HTTP_ADDR
    lifecycle = Lifecycle(mesh, feed, ConsulRegistration(settings, agent) if agent else None)

    metrics = Metrics()
    batching = BatcherFactory(settings.GATEWAY_BATCH, settings.GATEWAY_LANES, metrics.on_batch)
    make_breaker = partial(Breaker, max_in_flight=settings.GATEWAY_CALLS_PER_TARGET)
    rpc = GuardedRpc(mesh, make_breaker=make_breaker)
    balancer = Balancer("products", make_breaker=partial(make_breaker, max_failures=_MAX_INSTANCE_FAILURES))
    products = Products(
        rpc,
        batching,
        direct=products_over_grpc(settings, balancer),
        copies=StaleCache(settings.GATEWAY_STALE_SECONDS),
        on_fallback=metrics.on_fallback,
    )
    users, orders = Users(rpc), Orders(rpc, batching)
    metrics.watch(rpc, balancer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refuse_other_middleware(app.user_middleware)
        with ExitStack() as stack:
            if settings.GATEWAY_METRICS_PORT is not None:
                stack.enter_context(
                    metrics.served(settings.GATEWAY_METRICS_HOST, settings.GATEWAY_METRICS_PORT)
                )
            await lifecycle.start()
            products.start()
            try:
                yield
            finally:
                await lifecycle.drain()
                await products.stop()
                await orders.stop()
                await lifecycle.stop()

    app = _Application(
        title="Mycelium",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
        responses=ANY_PROBLEM,
    )
    app.state.lifecycle = lifecycle
    app.state.gateway = Gateway(
        settings=settings,
        tokens=Tokens(settings.secret, settings.GATEWAY_TOKEN_SECONDS),
        throttle=LoginThrottle(
            settings.GATEWAY_LOGINS_PER_ACCOUNT,
            settings.GATEWAY_LOGINS_PER_ADDRESS,
            instances=settings.GATEWAY_INSTANCES,
        ),
        products=products,
        users=users,
        orders=orders,
        feed=feed,
    )
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.append(docs.assets())
    if settings.GATEWAY_CORS_ORIGINS:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.GATEWAY_CORS_ORIGINS,
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "X-Request-Id",
                "X-Request-Timeout",
            ],
            expose_headers=["Age", "Location", "Idempotency-Key", "X-Request-Id", "Retry-After"],
        )
    app.add_middleware(
        RequestLimits, body_bytes=settings.GATEWAY_BODY_BYTES, body_seconds=settings.GATEWAY_BODY_SECONDS
    )
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.fast_path = FastPath(
        app.without_fast_path,
        handlers=app.exception_handlers,  # type: ignore[arg-type]  # ours are coroutine functions
        metrics=metrics,
        body=BodyLimit(settings.GATEWAY_BODY_BYTES, settings.GATEWAY_BODY_SECONDS),
        headers=[(b"vary", b"Origin")] if settings.GATEWAY_CORS_ORIGINS else [],
    )
    return app
