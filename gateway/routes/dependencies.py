"""Dependencies of the routes: the parts of a request beside its body, and the clients behind them."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from pydantic import StringConstraints

from nameko_mesh import deadline

from ..auth.login_throttle import LoginThrottle
from ..auth.tokens import Identity, Tokens
from ..clients.context import CallContext
from ..clients.orders import Orders
from ..clients.products import Products
from ..clients.users import Users
from ..order_events.feed import OrderFeed
from ..schemas import requests
from ..settings import Settings
from ..web.problems import invalid_field

_ID = re.compile(requests.ID)
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_COMMAND_NAMESPACE = uuid.UUID("5b0a4c5e-9a0f-4d39-a9d1-2f6f6ad7c3b1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The settings and the clients that the routes use. It is `app.state.gateway`."""

    settings: Settings
    tokens: Tokens
    throttle: LoginThrottle
    products: Products
    users: Users
    orders: Orders
    feed: OrderFeed

    def context(self, request_id: str, seconds: float = math.inf) -> CallContext:
        """Return a context whose deadline is in `seconds`, or in GATEWAY_DEADLINE if that is sooner."""
        ends_at = time.time() + min(seconds, self.settings.GATEWAY_DEADLINE)
        deadline.start(ends_at)
        return CallContext(request_id, ends_at)


async def current_gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def request_context(
    request: Request,
    seconds: Annotated[
        str | None,
        Header(
            alias="X-Request-Timeout",
            description="The time that the client waits for the response, in seconds, such as `1.5`; the "
            "gateway's own limit applies in any case",
        ),
    ] = None,
) -> CallContext:
    gateway: Gateway = request.app.state.gateway
    return gateway.context(request.state.request_id, math.inf if seconds is None else _positive(seconds))


def _positive(seconds: str) -> float:
    if not _SECONDS.fullmatch(seconds) or float(seconds) == 0:
        raise invalid_field("X-Request-Timeout", "expected seconds, more than 0, such as 1.5")
    return float(seconds)


def _path_id(field: str) -> Callable[[str], Awaitable[str]]:
    """Return a dependency that checks an id. Its message equals the service's, which is then not called."""

    async def checked_id(
        id: Annotated[str, Path(description="1 to 64 letters, digits or any of . _ : -")],
    ) -> str:
        if not _ID.fullmatch(id):
            raise invalid_field(field, "expected 1 to 64 letters, digits or any of . _ : -")
        return id

    return checked_id


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 visible ASCII characters; a request that is sent again with its key takes "
            "effect once",
        ),
    ] = None,
) -> str | None:
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise invalid_field("Idempotency-Key", "expected 1 to 255 visible ASCII characters")
    return key


GatewayDep = Annotated[Gateway, Depends(current_gateway)]
RequestContext = Annotated[CallContext, Depends(request_context)]
"""Starts the clock of the deadline. Name it after the body, because the body's arrival does not count."""
product_id = _path_id("product_id")
ProductId = Annotated[str, Depends(product_id)]
OrderId = Annotated[str, Depends(_path_id("order_id"))]
UserId = Annotated[str, Depends(_path_id("user_id"))]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
Limit = Annotated[int, Query(ge=1, le=100, description="The maximum number of items in a page")]
Cursor = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[!-~]{1,512}$")] | None,
    Query(description="The `next_cursor` of the previous page"),
]


def command_id(caller: Identity, route: str, key: str | None) -> str:
    """Return the id under which a service executes a change once.

    The id is the same for the same caller, route and key. Without a key it is random.
    """
    if key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_COMMAND_NAMESPACE, f"{caller.user_id} {route} {key}"))
