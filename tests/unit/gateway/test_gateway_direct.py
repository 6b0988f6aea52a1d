"""Routes that are answered at the server's door: the same answers, without an ASGI conversation."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest
import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse, Response
from uvicorn.server import ServerState

from gateway.metrics import Metrics
from gateway.routes import MOST_ASKED
from gateway.web.fast_path import DirectProtocol, DirectRoutes

asked = []


async def who(request: Request) -> str:
    asked.append(request)
    return "alice"


async def twice(name: Annotated[str, Depends(who)]) -> str:
    return name * 2


async def show(name: Annotated[str, Depends(who)], double: Annotated[str, Depends(twice)]) -> Response:
    return PlainTextResponse(f"{name} {double}")


async def echo(request: Request) -> Response:
    return PlainTextResponse((await request.receive())["body"], headers={"Sent-By": "direct"})


async def split(request: Request) -> Response:
    return PlainTextResponse("", headers={"Location": "/a\r\nSet-Cookie: b"})


async def null(request: Request) -> Response:
    return PlainTextResponse("", headers={"Location": "/a\0"})


async def crash(request: Request) -> Response:
    raise ValueError("a secret")


class Ways:
    """An application whose routes answer by which way a request has come."""

    def __init__(self, body_bytes=1000):
        self.app = FastAPI()
        self.app.post("/echo")(lambda: "by way of FastAPI")
        self.metrics = Metrics()
        routes = (
            ("GET", "/", show),
            ("POST", "/echo", echo),
            ("GET", "/split", split),
            ("GET", "/null", null),
            ("GET", "/crash", crash),
        )
        self.app.state.direct = DirectRoutes(
            self.app, routes, handlers={}, metrics=self.metrics, body_bytes=body_bytes
        )

    async def ask(self, *packets):
        """What comes back until the server closes the connection; each packet is read by itself."""
        config = uvicorn.Config(self.app, log_config=None)
        config.load()
        protocol = DirectProtocol(config, ServerState(), {}, direct=self.app.state.direct)
        wire = Wire()
        protocol.connection_made(wire)
        for packet in packets:
            protocol.data_received(packet)
        await asyncio.wait_for(wire.closed.wait(), 5)
        protocol.connection_lost(None)
        return bytes(wire.written)


class Wire(asyncio.Transport):
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
        """What is fed to the protocol is all there is to read."""

    def resume_reading(self):
        """See above."""


def a_request(method="GET", path="/", *lines, body=b"", length=None):
    said = [
        f"{method} {path} HTTP/1.1",
        "Host: gateway",
        *lines,
        f"Content-Length: {length or len(body)}",
        "",
        "",
    ]
    return "\r\n".join(said).encode() + body


LAST = "Connection: close"


def test_the_document_tells_of_them_all_the_same(app):
    paths = app.openapi()["paths"]
    assert all(method.lower() in paths[path] for method, path, _ in MOST_ASKED)


async def test_a_dependency_is_asked_once_in_a_request():
    asked.clear()

    assert (await Ways().ask(a_request("GET", "/", LAST))).endswith(b"\r\n\r\nalice alicealice")
    assert len(asked) == 1


async def test_a_body_in_one_packet_is_answered_here():
    answer = await Ways().ask(a_request("POST", "/echo", LAST, body=b"hello"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"sent-by: direct\r\n" in answer
    assert b"x-content-type-options: nosniff\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "packets",
    [
        [a_request("POST", "/echo", LAST, length=5), b"hello"],
        [a_request("POST", "/echo", LAST, body=b"x" * 1001)],
        [a_request("POST", "/echo", LAST, "Origin: https://shop.example", body=b"hello")],
        [a_request("POST", "/echo", LAST, "Expect: 100-continue", body=b"hello")],
    ],
    ids=["a body to come", "a body too large", "a script", "who asks before"],
)
async def test_what_is_out_of_the_ordinary_goes_the_way_of_all(packets):
    assert (await Ways().ask(*packets)).endswith(b'"by way of FastAPI"')


async def test_requests_that_come_together_are_answered_in_their_order():
    answer = await Ways().ask(
        a_request("POST", "/echo", body=b"one")
        + a_request("POST", "/echo", "Origin: https://shop.example", body=b"two")
        + a_request("POST", "/echo", body=b"three")
        + a_request("POST", "/echo", LAST, body=b"four")
    )

    assert [answer.index(each) for each in (b"one", b"FastAPI", b"three", b"four")] == sorted(
        answer.index(each) for each in (b"one", b"FastAPI", b"three", b"four")
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 4


async def test_one_that_is_cut_anywhere_is_put_together():
    whole = a_request("POST", "/echo", LAST, body=b"hello")

    for cut in range(1, len(whole), 7):
        answer = await Ways().ask(whole[:cut], whole[cut:])
        assert answer.endswith((b"\r\n\r\nhello", b'"by way of FastAPI"')), cut


async def test_a_crash_is_a_problem_that_tells_nothing_but_its_request_id(caplog):
    answer = await Ways().ask(a_request("GET", "/crash", LAST, "X-Request-Id: r-1"))

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-request-id: r-1\r\n" in answer
    assert b"it is logged under the request id r-1" in answer
    assert b"secret" not in answer
    assert "ValueError: a secret" in caplog.text


@pytest.mark.parametrize("path", ["/split", "/null"])
async def test_a_header_with_control_characters_never_leaves(path, caplog):
    ways = Ways()

    answer = await ways.ask(a_request("GET", path, LAST))

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in answer
    assert "line break" in caplog.text
    assert f'route="{path}",status="500"}} 1.0' in generate_latest(ways.metrics.registry).decode()


async def test_they_are_counted_by_their_template():
    ways = Ways()

    await ways.ask(a_request("POST", "/echo", LAST, body=b"hello"))

    figures = generate_latest(ways.metrics.registry).decode()
    assert 'gateway_request_seconds_count{method="POST",route="/echo",status="200"} 1.0' in figures
    assert "gateway_requests_in_flight 0.0" in figures


def test_what_no_plan_can_provide_is_refused_when_it_is_made():
    async def listed(limit: Annotated[int, Query(ge=1)] = 50) -> Response:
        return PlainTextResponse(str(limit))

    with pytest.raises(TypeError, match="limit"):
        _planned(listed)


def test_what_would_block_the_loop_is_refused_as_well():
    async def named(name: Annotated[str, Depends(_blocking)]) -> Response:
        return PlainTextResponse(name)

    with pytest.raises(TypeError, match="not async"):
        _planned(named)


def _planned(endpoint):
    return DirectRoutes(FastAPI(), [("GET", "/", endpoint)], handlers={}, metrics=Metrics(), body_bytes=1)


def _blocking() -> str:
    return "alice"
