"""`python -m bench.tricks.gateway`: the tricks of the gateway beside plain FastAPI and Starlette.

Each line is the CPU time of a step in microseconds: the plain way, the trick, and their ratio. Requests go
through the ASGI application in this process. There is no server, and the services answer at once.

Only the line of coalesced_writes has a server: uvicorn's protocol with an empty application. It includes the
CPU time of the client, which is in this process too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
import uvicorn
import uvloop
from starlette.responses import Response
from starlette.types import ASGIApp, Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bench.tricks.timing import STEPS, Steps, repeat, report
from gateway.app import create_app
from gateway.metrics import Metrics
from gateway.routes.responses import json_response
from gateway.settings import Settings
from gateway.web.coalesced_writes import HttpProtocol

CLIENTS = 64
REQUEST = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
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


async def small_response(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Client(asyncio.Protocol):
    """Sends the next request when the response is complete."""

    def __init__(self, responses: int) -> None:
        self.left = responses
        self.done = loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"ok"):
            return
        self.left -= 1
        if self.left:
            self.transport.write(REQUEST)
        else:
            self.done.set_result(None)
            self.transport.close()


def responses(http: type[HttpToolsProtocol]) -> Steps:
    """Send requests of 64 clients over sockets to uvicorn's protocol."""
    config = uvicorn.Config(small_response, http=http, lifespan="off", log_config=None)
    config.load()

    async def clients() -> None:
        make = partial(http, config, ServerState(), {})
        async with await loop.create_server(make, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            opened = [
                await loop.create_connection(partial(Client, STEPS // CLIENTS), *address)
                for _ in range(CLIENTS)
            ]
            await asyncio.gather(*(client.done for _, client in opened))

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
            "coalesced_writes: a response over a socket": (
                responses(HttpToolsProtocol),
                responses(HttpProtocol),
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
