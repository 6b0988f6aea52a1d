"""Writes of one iteration of the event loop leave together, in order, and before the connection closes."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.web.coalesced_writes import CoalescedTransport, HttpProtocol
from tests.waiting import eventually_async


class RecordingTransport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.calls = []

    def write(self, data):
        self.calls.append(bytes(data))

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return "close" in self.calls


@pytest.fixture
def inner():
    return RecordingTransport()


@pytest.fixture
async def transport(inner):
    return CoalescedTransport(inner, asyncio.get_running_loop())


async def test_writes_of_one_iteration_leave_together(transport, inner):
    transport.write(b"head")
    transport.write(bytearray(b"body"))
    assert inner.calls == []
    await asyncio.sleep(0)
    assert inner.calls == [b"headbody"]
    await asyncio.sleep(0)
    assert inner.calls == [b"headbody"]


async def test_later_writes_leave_after_earlier_ones(transport, inner):
    for data in (b"first", b"second"):
        transport.write(data)
        await asyncio.sleep(0)
    assert inner.calls == [b"first", b"second"]


async def test_close_sends_what_was_written(transport, inner):
    transport.write(b"goodbye")
    transport.close()
    await asyncio.sleep(0)
    assert inner.calls == [b"goodbye", "close"]


async def test_abort_drops_what_was_written(transport, inner):
    transport.write(b"too late")
    transport.abort()
    await asyncio.sleep(0)
    assert inner.calls == ["abort"]


async def test_response_of_uvicorn_leaves_in_one_write(inner):
    """This fails when uvicorn no longer writes to the transport that `connection_made` gets."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=HttpProtocol, lifespan="off", log_config=None)
    config.load()
    protocol = HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    protocol.connection_made(inner)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    await eventually_async(lambda: bool(inner.calls))
    (response,) = inner.calls
    assert response.endswith(b"\r\n\r\nok")
    protocol.connection_lost(None)
