"""`python -m bench.tricks.gateway`: the tricks of the gateway beside plain FastAPI and Starlette.

Each line is the CPU time of a step in microseconds: the plain way, the trick, and their ratio. Requests go
through the ASGI application in this process. There is no server, and the services answer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import uvloop
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from bench.tricks.timing import STEPS, Steps, repeat, report
from gateway.app import create_app
from gateway.metrics import Metrics
from gateway.routes.responses import json_response
from gateway.settings import Settings

CLIENTS = 64
ORDER = orjson.dumps({"items": [{"product_id": "P001", "quantity": 1}]})
PRODUCT = {
    "id": "P001",
    "name": "Laptop",
    "price": 1200.5,
    "price_minor": 120050,
    "currency": "USD",
    "stock": 10,
}
PLACED = {"order_id": "o-1", "status": "confirmed", "items": [{"product": PRODUCT, "quantity": 1}]}


class Services:
    """A connection to services that answer at once."""

    is_connected = True

    async def call(self, service: str, method: str, kwargs: Mapping[str, Any], **options: Any) -> Any:
        if method == "place_orders":
            return [{"ok": PLACED} for _ in kwargs["orders"]]
        return [{"ok": PRODUCT | {"id": product_id}} for product_id in kwargs["product_ids"]]

    def subscribe(self, *args: Any, **options: Any) -> None:
        """Do nothing: no client follows an order."""


def scope_of(method: str, path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "headers": [(b"host", b"gateway"), *headers],
    }


def requests(app: ASGIApp, scope: dict[str, Any], status: int, body: bytes = b"") -> Steps:
    """Send requests of 64 clients at a time, and check the status of each response."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        assert message.get("status", status) == status, message

    async def clients() -> None:
        for _ in range(STEPS // CLIENTS):
            await asyncio.gather(*(app({**scope, "state": {}}, receive, send) for _ in range(CLIENTS)))

    def steps() -> int:
        loop.run_until_complete(clients())
        return STEPS // CLIENTS * CLIENTS

    return steps


def main() -> None:
    app: Any = create_app(Settings(AMQP_URI="amqp://nowhere", JWT_SECRET="x" * 32), Services())  # type: ignore[arg-type]
    token = app.state.gateway.tokens.issue("U001", "user")
    json_type = (b"content-type", b"application/json")
    order = scope_of("POST", "/orders", (b"authorization", f"Bearer {token}".encode()), json_type)
    product = scope_of("GET", "/products/P001")
    metrics = Metrics()
    labels = ("GET", "/products/{id}", "200")
    report(
        {
            "fast_path: an order": (
                requests(app.without_fast_path, order, 201, ORDER),
                requests(app, order, 201, ORDER),
            ),
            "fast_path: a read of a product": (
                requests(app.without_fast_path, product, 200),
                requests(app, product, 200),
            ),
            "responses: a JSON response": (
                repeat(lambda: Response(orjson.dumps(PRODUCT), 200, media_type="application/json")),
                repeat(lambda: json_response(PRODUCT)),
            ),
            "metrics: observe a request": (
                repeat(lambda: metrics.seconds.labels(*labels).observe(0.01)),
                repeat(lambda: metrics.observe("GET", "/products/{id}", 200, 0.01)),
            ),
        }
    )


loop = uvloop.new_event_loop()

if __name__ == "__main__":
    main()
