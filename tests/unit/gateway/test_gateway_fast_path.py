"""The fast path: its responses equal FastAPI's, byte for byte, and all middleware acts on them."""

from __future__ import annotations

import asyncio
import dataclasses
from inspect import iscoroutinefunction

import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse, Response
from uvicorn.server import ServerState

from gateway.app import create_app
from gateway.auth.tokens import Tokens, bearer, caller
from gateway.fast_path import FAST_PATH_ROUTES, FastPath
from gateway.metrics import Metrics
from gateway.routes.dependencies import current_gateway, idempotency_key, product_id, request_context
from gateway.routes.orders import order_body
from gateway.web.request_limits import BodyLimit
from nameko_mesh.errors import DeadlineExceeded, Refused, RemoteFault, Unavailable

BODY_BYTES = 1000
LAST = "Connection: close"
ID = "X-Request-Id: r-1"
JSON = "Content-Type: application/json"
KEY = "Idempotency-Key: k-1"
SCRIPT = "Origin: https://shop.example"
ORDER = b'{"product_id": "P001", "quantity": 1}'
LARGE = b'{"items": ' + b" " * BODY_BYTES + b"}"


async def echo(request):
    return PlainTextResponse(await request.body(), headers={"Sent-By": "the fast path"})


async def split(request):
    return PlainTextResponse("", headers={"Location": "/a\r\nSet-Cookie: b"})


async def null(request):
    return PlainTextResponse("", headers={"Location": "/a\0"})


async def crash(request):
    raise ValueError("a secret")


class Shop:
    """An application with a fast path for routes of the test, and FastAPI behind it."""

    def __init__(self):
        self.app = FastAPI()
        self.app.post("/plain")(lambda: "by way of FastAPI")
        self.metrics = Metrics()
        routes = (
            ("POST", "/echo", echo),
            ("GET", "/split", split),
            ("GET", "/null", null),
            ("GET", "/crash", crash),
        )
        self.front = FastPath(
            self.app, routes, handlers={}, metrics=self.metrics, body_limit=BodyLimit(BODY_BYTES, 5)
        )

    async def exchange(self, *packets):
        return await exchange(self.front, *packets)


async def exchange(app, *packets):
    """Send packets, of which the server reads each by itself. Return all it sends until it closes."""
    config = uvicorn.Config(app, http="httptools", interface="asgi3", log_config=None)
    config.load()
    protocol = config.http_protocol_class(config, ServerState(), {})
    transport = Transport()
    protocol.connection_made(transport)
    for packet in packets:
        protocol.data_received(packet)
        await asyncio.sleep(0)
    await asyncio.wait_for(transport.closed.wait(), 5)
    protocol.connection_lost(None)
    return bytes(transport.written)


class Transport(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = bytearray()
        self.closed = asyncio.Event()

    def write(self, data):
        assert not self.closed.is_set()
        self.written += data

    def close(self):
        self.closed.set()

    def is_closing(self):
        return self.closed.is_set()

    def pause_reading(self):
        """Do nothing: there is no more to read than what the protocol was given."""

    def resume_reading(self):
        """Do nothing, as above."""


def a_request(method="GET", path="/", *lines, body=b"", length=None):
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: gateway",
        *lines,
        f"Content-Length: {length or len(body)}",
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


def a_chunked_request(path, *lines, chunks):
    head = [f"POST {path} HTTP/1.1", "Host: gateway", *lines, "Transfer-Encoding: chunked", "", ""]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(head).encode() + body + b"0\r\n\r\n"


def an_old_request(path, *lines):
    return "\r\n".join([f"GET {path} HTTP/1.0", *lines, "", ""]).encode()


def test_openapi_document_describes_the_routes_of_the_fast_path(app):
    paths = app.openapi()["paths"]
    assert all(method.lower() in paths[path] for method, path, _ in FAST_PATH_ROUTES)


async def test_fast_path_answers_without_the_routes_of_fastapi(app, asgi, mesh, alice, an_order):
    app.router.routes.clear()
    mesh.results["products.get_products"] = [{"ok": {"id": "P001"}}]
    mesh.results["orders.place_orders"] = [{"ok": an_order()}]

    assert (await asgi.get("/products/P001")).status_code == 200
    order = {"product_id": "P001", "quantity": 1}
    assert (await asgi.post("/orders", json=order, headers=alice)).status_code == 201
    assert (await asgi.get("/health")).status_code == 404


async def test_token_is_verified_once_in_a_request(app, asgi, mesh, alice, an_order, settings):
    class Counted(Tokens):
        verified = 0

        def verify(self, token):
            self.verified += 1
            return super().verify(token)

    tokens = Counted(settings.secret, 60)
    app.state.gateway = dataclasses.replace(app.state.gateway, tokens=tokens)
    mesh.results["orders.place_orders"] = [{"ok": an_order()}]

    response = await asgi.post("/orders", json={"product_id": "P001", "quantity": 1}, headers=alice)

    assert response.status_code == 201
    assert tokens.verified == 1


async def test_request_in_one_packet_is_answered_by_the_fast_path():
    response = await Shop().exchange(a_request("POST", "/echo", LAST, body=b"hello"))

    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"sent-by: the fast path\r\n" in response
    assert b"x-content-type-options: nosniff\r\n" in response
    assert response.endswith(b"\r\n\r\nhello")


TOO_LARGE_IN_CHUNKS = a_chunked_request("/orders", "{alice}", ID, JSON, KEY, LAST, chunks=[ORDER, LARGE])
OUT_OF_THE_ORDINARY = {
    "a body to come": [
        a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, length=len(ORDER)),
        ORDER,
    ],
    "a body too large": [a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, body=LARGE)],
    "a script": [a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, SCRIPT, body=ORDER)],
    "who asks before": [
        a_request(
            "POST", "/orders", "{alice}", ID, JSON, KEY, LAST, "Expect: 100-continue", length=len(ORDER)
        ),
        ORDER,
    ],
    "a stranger who asks before": [
        a_request("POST", "/orders", ID, JSON, LAST, "Expect: 100-continue", length=len(ORDER))
    ],
    "too large, asks before": [
        a_request("POST", "/orders", "{alice}", ID, JSON, LAST, "Expect: 100-continue", length=len(LARGE))
    ],
    "in chunks": [
        a_chunked_request("/orders", "{alice}", ID, JSON, KEY, LAST, chunks=[ORDER[:9], ORDER[9:]])
    ],
    "too large in chunks": [TOO_LARGE_IN_CHUNKS],
    "too large in packets": [TOO_LARGE_IN_CHUNKS[:400], TOO_LARGE_IN_CHUNKS[400:]],
    "a head alone": [a_request("HEAD", "/products/P001", ID, LAST)],
    "an old client": [an_old_request("/products/P001", ID)],
}
ORDINARY = {
    "an order": [a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, body=ORDER)],
    "two orders": [
        a_request("POST", "/orders", "{alice}", ID, JSON, KEY, body=ORDER)
        + a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, body=ORDER)
    ],
    "no token": [a_request("POST", "/orders", ID, JSON, LAST, body=ORDER)],
    "a wrong token": [a_request("POST", "/orders", "Authorization: Bearer x", ID, LAST, body=ORDER)],
    "basic credentials": [a_request("POST", "/orders", "Authorization: Basic x", ID, LAST, body=ORDER)],
    "a blank key": [a_request("POST", "/orders", "{alice}", ID, JSON, LAST, "Idempotency-Key: ", body=ORDER)],
    "two keys": [a_request("POST", "/orders", "{alice}", ID, JSON, LAST, KEY, KEY + "0", body=ORDER)],
    "no JSON": [a_request("POST", "/orders", "{alice}", ID, JSON, LAST, body=b"{")],
    "no content type": [a_request("POST", "/orders", "{alice}", ID, LAST, body=ORDER)],
    "no body": [a_request("POST", "/orders", "{alice}", ID, JSON, LAST)],
    "an unknown field": [a_request("POST", "/orders", "{alice}", ID, JSON, LAST, body=b'{"a": 1}')],
    "for another": [
        a_request("POST", "/orders", "{alice}", ID, JSON, LAST, body=ORDER[:-1] + b', "user_id": "U002"}')
    ],
    "an order with a bad timeout": [
        a_request("POST", "/orders", "{alice}", ID, JSON, KEY, LAST, "X-Request-Timeout: 0", body=ORDER)
    ],
    "a product": [a_request("GET", "/products/P001", ID, LAST)],
    "a product with a query": [a_request("GET", "/products/P001?a=b", ID, LAST)],
    "a product with a body": [a_request("GET", "/products/P001", ID, LAST, body=b"hello")],
    "an encoded id": [a_request("GET", "/products/P%30%301", ID, LAST)],
    "an encoded slash": [a_request("GET", "/products/P%2F1", ID, LAST)],
    "a line break in the id": [a_request("GET", "/products/P001%0A", ID, LAST)],
    "a slash at the end": [a_request("GET", "/products/P001/", ID, LAST)],
    "an id beyond ASCII": [a_request("GET", "/products/%ff", ID, LAST)],
    "an id too long": [a_request("GET", "/products/" + "x" * 65, ID, LAST)],
    "a timeout": [a_request("GET", "/products/P001", ID, LAST, "X-Request-Timeout: 1.5")],
    "a bad timeout": [a_request("GET", "/products/P001", ID, LAST, "X-Request-Timeout: soon")],
    "two timeouts": [
        a_request("GET", "/products/P001", ID, LAST, "X-Request-Timeout: 1", "X-Request-Timeout: soon")
    ],
    "another method": [a_request("DELETE", "/products/P001", ID, LAST)],
}


@pytest.mark.parametrize("origins", [[], ["https://shop.example"]], ids=["", "with CORS"])
@pytest.mark.parametrize(
    "packets",
    [*OUT_OF_THE_ORDINARY.values(), *ORDINARY.values()],
    ids=[*OUT_OF_THE_ORDINARY, *ORDINARY],
)
async def test_responses_equal_those_of_fastapi(make_settings, mesh, alice, an_order, packets, origins):
    app = create_app(make_settings(GATEWAY_BODY_BYTES=BODY_BYTES, GATEWAY_CORS_ORIGINS=origins), mesh)
    mesh.results["products.get_products"] = [{"ok": {"id": "P001", "price": 1.5}}]
    mesh.results["orders.place_orders"] = [{"ok": an_order()}]
    token = f"Authorization: {alice['Authorization']}".encode()
    packets = [packet.replace(b"{alice}", token) for packet in packets]

    expected = await exchange(app.without_fast_path, *packets)
    calls = [*mesh.calls]
    response = await exchange(app, *packets)

    assert expected.startswith(b"HTTP/1.1 ")
    assert response == expected
    assert mesh.calls == 2 * calls


@pytest.mark.parametrize(
    "outcome",
    [
        Unavailable("gone"),
        DeadlineExceeded("late"),
        RemoteFault("KeyError", "a secret"),
        Refused("not-found", "no such product", "product_id"),
        ZeroDivisionError("a secret"),
        [{"error": {"code": "out-of-stock", "message": "P001 is out of stock"}}],
        [],
    ],
    ids=repr,
)
@pytest.mark.parametrize("origins", [[], ["https://shop.example"]], ids=["", "with CORS"])
async def test_failures_equal_those_of_fastapi(make_settings, mesh, alice, outcome, origins):
    app = create_app(make_settings(GATEWAY_CORS_ORIGINS=origins), mesh)
    mesh.results["products.get_products"] = mesh.results["orders.place_orders"] = outcome
    token = f"Authorization: {alice['Authorization']}"

    for packet in (
        a_request("POST", "/orders", token, ID, JSON, KEY, LAST, body=ORDER),
        a_request("GET", "/products/P001", ID, LAST),
    ):
        assert await exchange(app, packet) == await exchange(app.without_fast_path, packet)


async def test_pipelined_requests_are_answered_in_order():
    response = await Shop().exchange(
        a_request("POST", "/echo", body=b"one")
        + a_request("POST", "/plain", body=b"two")
        + a_request("POST", "/echo", body=b"three")
        + a_request("POST", "/echo", LAST, body=b"four")
    )

    assert [response.index(part) for part in (b"one", b"FastAPI", b"three", b"four")] == sorted(
        response.index(part) for part in (b"one", b"FastAPI", b"three", b"four")
    )
    assert response.count(b"HTTP/1.1 200 OK") == 4


async def test_request_split_at_any_byte_is_answered():
    whole = a_request("POST", "/echo", LAST, body=b"hello")

    for cut in range(1, len(whole), 7):
        response = await Shop().exchange(whole[:cut], whole[cut:])
        assert response.endswith(b"\r\n\r\nhello"), cut


async def test_crash_is_a_problem_that_shows_only_the_request_id(caplog):
    response = await Shop().exchange(a_request("GET", "/crash", LAST, "X-Request-Id: r-1"))

    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"x-request-id: r-1\r\n" in response
    assert b"the error is logged under the request id r-1" in response
    assert b"secret" not in response
    assert "ValueError: a secret" in caplog.text


@pytest.mark.parametrize("path", ["/split", "/null"])
async def test_response_header_with_a_control_character_is_not_sent(path, caplog):
    shop = Shop()

    response = await shop.exchange(a_request("GET", path, LAST))

    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in response
    assert "line break" in caplog.text
    assert f'route="{path}",status="500"}} 1.0' in generate_latest(shop.metrics.registry).decode()


async def test_requests_are_counted_by_the_template_of_their_path():
    shop = Shop()

    await shop.exchange(a_request("POST", "/echo", LAST, body=b"hello"))

    figures = generate_latest(shop.metrics.registry).decode()
    assert 'gateway_request_seconds_count{method="POST",route="/echo",status="200"} 1.0' in figures
    assert "gateway_requests_in_flight 0.0" in figures


class Stamp:
    """A middleware that the fast path does not know."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


async def test_unknown_middleware_is_refused_at_start_by_name(app, asgi, mesh):
    app.add_middleware(Stamp)

    with pytest.raises(RuntimeError, match="the middleware Stamp would not act on POST /orders"):
        async with app.router.lifespan_context(app):
            pass
    with pytest.raises(RuntimeError, match="Stamp"):
        await asgi.get("/products/P001")
    assert mesh.calls == []


@pytest.mark.parametrize("lifespan", ["on", "auto"])
async def test_server_does_not_start_with_unknown_middleware(app, lifespan, caplog):
    app.add_middleware(Stamp)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan=lifespan, log_config=None))

    with pytest.raises(SystemExit):
        await server.serve()

    assert not server.started
    assert "the middleware Stamp would not act on POST /orders" in caplog.text


async def test_middleware_added_after_the_start_is_refused(app, asgi):
    await asgi.get("/health")

    with pytest.raises(RuntimeError, match="started"):
        app.add_middleware(Stamp)


async def test_added_exception_handler_acts_on_the_fast_path(app, asgi, mesh):
    async def teapot(request, error):
        return Response(status_code=418)

    app.add_exception_handler(ZeroDivisionError, teapot)
    mesh.results["products.get_products"] = ZeroDivisionError()

    assert (await asgi.get("/products/P001")).status_code == 418


async def test_handler_provides_every_dependency_of_its_route(app):
    """A new dependency of a route belongs in its handler in gateway/fast_path.py, then in this table."""
    provided = {
        "/orders": {caller, bearer, idempotency_key, order_body, current_gateway, request_context},
        "/products/{id}": {product_id, current_gateway, request_context},
    }

    for route in await _fastapi_routes(app):
        assert set(_dependencies(route.dependant)) == provided[route.path], route.path
        assert not route.dependencies, route.path
    assert not app.router.dependencies


async def test_dependencies_and_endpoints_are_coroutine_functions(app):
    for route in await _fastapi_routes(app):
        for call in (route.endpoint, *_dependencies(route.dependant)):
            assert iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__), call


async def _fastapi_routes(app):
    """Return the routes that FastAPI chooses for requests of the fast path."""
    routes = []
    for method, path, _ in FAST_PATH_ROUTES:
        scope = {"type": "http", "method": method, "path": path.format(id="P001")}
        scope |= {"headers": [], "query_string": b""}
        await app.without_fast_path(scope, _receive, _ignore)
        routes.append(scope["route"])
    assert [route.path for route in routes] == [path for _, path, _ in FAST_PATH_ROUTES]
    return routes


async def _receive():
    return {"type": "http.request"}


async def _ignore(message):
    """Ignore the response."""


def _dependencies(dependant):
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _dependencies(dependency)
