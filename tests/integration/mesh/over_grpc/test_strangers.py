"""Hostile clients get clear answers, disturb no other client, and use little memory."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, SettingsFrame

from nameko_mesh.grpc.http2 import limits
from tests.integration.mesh.over_grpc.process import ServiceProcess, echo_process
from tests.integration.mesh.over_grpc.stranger import Stranger, enveloped
from tests.waiting import eventually

MOST_GROWTH = 100 * 1024 * 1024
CALM = 11  # ENHANCE_YOUR_CALM
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with echo_process(tmp_path_factory.mktemp("echo")) as process:
        yield process


@pytest.fixture(autouse=True)
def _is_well_afterwards(service: ServiceProcess) -> Iterator[None]:
    """Check that the process lives and answers, and that its memory has not grown much."""
    service.forget_peak()
    before = service.memory("VmRSS")
    yield
    eventually(service.answers, 20)
    assert service.memory("VmHWM") - before < MOST_GROWTH


@pytest.fixture
def stranger(service: ServiceProcess) -> Iterator[Stranger]:
    with Stranger(service.port) as client:
        yield client


REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "fine": ({}, "grpc 0"),
    "unknown method": ({"path": "/echo.Echo/Steal"}, "grpc 12"),
    "unknown service": ({"path": "/"}, "grpc 12"),
    "path of a file": ({"path": "/../../etc/passwd"}, "grpc 12"),
    "GET": ({"method": "GET"}, "http 405"),
    "JSON": ({"content-type": "application/json"}, "http 415"),
    "no content type": ({"content-type": None}, "http 415"),
    "unknown packing": ({"grpc-encoding": "snappy"}, "grpc 12"),
    "context that is no JSON": ({"x-nameko-foo": "notjson"}, "grpc 3"),
    "context of the wrong type": ({"x-nameko-call_id_stack": "5"}, "grpc 3"),
    "context too deep": ({"x-nameko-foo": "[" * 10_000}, "grpc 3"),
    "a deadline of text": ({"x-nameko-deadline": '"x"'}, "grpc 3"),
    "metadata named as context": ({"deadline": "soon", "call_id_stack": "5", "grpc-timeout": "5S"}, "grpc 0"),
    "metadata that is no base64": ({"x-bin": "a"}, "grpc 3"),
    "metadata that is no UTF-8": ({"x": b"\xff\xfe"}, "grpc 3"),
    "a timeout of text": ({"grpc-timeout": "soon"}, "grpc 3"),
    "an empty timeout": ({"grpc-timeout": ""}, "grpc 3"),
    "a negative timeout": ({"grpc-timeout": "-5S"}, "grpc 3"),
    "a timeout with too many digits": ({"grpc-timeout": "9" * 400 + "S"}, "grpc 3"),
    "a timeout of centuries": ({"grpc-timeout": "99999999H"}, "grpc 0"),
    "a timeout of nothing": ({"grpc-timeout": "0n"}, "grpc 4"),
    "garbage": ({"body": enveloped(b"\xff" * 100)}, "grpc 13"),
    "garbage that is called packed": ({"body": enveloped(b"\xff" * 100, packed=1)}, "grpc 13"),
    "half of what is packed": ({"body": enveloped(zlib.compress(b"x" * 100)[:-8], packed=1)}, "grpc 13"),
    "half a message": ({"body": enveloped(b"x" * 100)[:50]}, "grpc 13"),
    "no message": ({"body": b""}, "grpc 3"),
    "a message that is announced too large": ({"body": struct.pack(">BI", 0, 2**32 - 1)}, "grpc 8"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_odd_request_gets_a_clear_status_and_the_connection_stays_open(name: str, stranger: Stranger) -> None:
    request, expected = REQUESTS[name]
    assert stranger.call(**request) == expected
    assert stranger.call() == "grpc 0"


def test_oversized_headers_end_the_connection(stranger: Stranger) -> None:
    assert stranger.call(x="x" * 30_000) == "gone"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10, b"\x16\x03\x01" * 100, b"\0" * 10_000]
)
@pytest.mark.parametrize("preface", [b"", PREFACE])
def test_garbage_ends_the_connection(preface: bytes, garbage: bytes, service: ServiceProcess) -> None:
    with Stranger(service.port, greets=False) as client:
        with suppress(OSError):
            client.sock.sendall(preface + garbage)
        with suppress(OSError):
            while client.sock.recv(1000):
                """Read until the server closes the connection."""


def test_client_without_a_handshake_is_disconnected(service: ServiceProcess) -> None:
    with Stranger(service.port, greets=False) as silent, Stranger(service.port, greets=False) as slow:
        slow.sock.sendall(PREFACE[:10])
        for client in (silent, slow):
            while client.sock.recv(1000):
                """Read the server's settings, then the end of the connection."""


def test_reset_connection_at_any_stage_disturbs_no_other(service: ServiceProcess) -> None:
    def reset(client: Stranger) -> None:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()

    def stages() -> Iterator[Stranger]:
        yield Stranger(service.port, greets=False)
        yield Stranger(service.port)
        for body, path in (
            (None, "Once"),
            (b"\0", "Once"),
            (enveloped(b""), "Once"),
            (enveloped(b""), "Converse"),
        ):
            client = Stranger(service.port)
            client.ask(body, end=False, path=f"/echo.Echo/{path}")
            yield client
        client = Stranger(service.port)
        client.ask(enveloped(b"\x10\xff\xff\x03\x1a\x80\x01" + b"x" * 128), path="/echo.Echo/Repeat")
        client.listen()
        yield client

    for _ in range(10):
        for client in stages():
            reset(client)


def test_message_of_300_megabytes_is_refused_before_it_arrives(stranger: Stranger) -> None:
    stream_id = stranger.ask()
    stranger.send(stream_id, struct.pack(">BI", 0, 300_000_000))
    block = b"x" * 1_000_000
    sent = 0
    while sent < 300 and not stranger.ended(stream_id):
        stranger.send(stream_id, block)
        sent += 1
    assert stranger.answer(stream_id) == "grpc 8"
    assert sent < 300
    assert stranger.call() == "grpc 0"


@pytest.mark.parametrize("wbits", [zlib.MAX_WBITS, zlib.MAX_WBITS | 16], ids=["deflate", "gzip"])
def test_decompression_bombs_are_refused(wbits: int, service: ServiceProcess) -> None:
    packing = zlib.compressobj(wbits=wbits)
    bomb = b"".join(packing.compress(bytes(10_000_000)) for _ in range(10)) + packing.flush()
    assert len(bomb) < 120_000

    def throw(_: int) -> str:
        with Stranger(service.port) as client:
            stream_id = client.ask(**{"grpc-encoding": "deflate"})
            client.send(stream_id, enveloped(bomb, packed=1))
            return client.answer(stream_id)

    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(throw, range(20))) == {"grpc 8"}


def test_messages_waiting_for_workers_have_a_limit(service: ServiceProcess) -> None:
    """Some of many large concurrent messages are refused, and all others are answered."""
    large = enveloped(b"\x1a\x80\x80\x80\x04" + b"x" * 8 * 1024 * 1024)

    def upload(_: int) -> str:
        with Stranger(service.port) as client:
            stream_id = client.ask(path="/echo.Echo/Gather")
            client.send(stream_id, large[:-1])
            if not client.ended(stream_id):
                barrier.append(stream_id)
                eventually(lambda: len(barrier) + len(refused) >= 12, 30)
                client.send(stream_id, large[-1:])
                client.h2.end_stream(stream_id)
                client.flush()
            else:
                refused.append(stream_id)
            return client.answer(stream_id)

    barrier: list[int] = []
    refused: list[int] = []
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(upload, range(12)))
    assert set(answers) == {"grpc 0", "grpc 8"}
    assert answers.count("grpc 0") >= 4


def test_streams_beyond_the_limit_are_refused_without_ending_the_connection(stranger: Stranger) -> None:
    stream_ids = [stranger.ask(path="/echo.Echo/Gather") for _ in range(limits.MAX_STREAMS)]
    stranger.h2.remote_settings.max_concurrent_streams = 1000
    stranger.h2.remote_settings.acknowledge()
    assert stranger.answer(stranger.ask(path="/echo.Echo/Gather")) == "reset 7"  # REFUSED_STREAM
    for stream_id in stream_ids:
        stranger.h2.end_stream(stream_id)
    stranger.flush()
    assert {stranger.answer(stream_id) for stream_id in stream_ids} == {"grpc 0"}


def test_rapid_resets_end_the_connection(stranger: Stranger) -> None:
    def attack() -> None:
        for _ in range(2 * limits.MAX_NUISANCES):
            stream_id = stranger.ask(b"", end=False)
            stranger.h2.reset_stream(stream_id)
            stranger.flush()

    with suppress(OSError):
        attack()
    assert stranger.goodbye() in {CALM, None}  # None: the GOAWAY was lost, because the client went on sending


@pytest.mark.parametrize(
    "frame",
    [PingFrame(0, opaque_data=b"12345678"), SettingsFrame(0), DataFrame(1)],
    ids=lambda frame: type(frame).__name__,
)
def test_flood_of_frames_ends_the_connection(frame: Any, stranger: Stranger) -> None:
    stranger.ask(path="/echo.Echo/Gather")
    with suppress(OSError):
        for _ in range(100):
            stranger.sock.sendall(frame.serialize() * 1000)
    assert stranger.goodbye() in {CALM, None}


def test_endless_headers_end_the_connection(stranger: Stranger) -> None:
    with suppress(OSError):
        stranger.send_frame(HeadersFrame(1, b"\x82"))
        for _ in range(10_000):
            stranger.send_frame(ContinuationFrame(1, b"\x82" * 1000))
    stranger.goodbye()


def test_flood_of_connections_is_limited(service: ServiceProcess) -> None:
    with ExitStack() as clients:
        let_in = [clients.enter_context(Stranger(service.port)) for _ in range(limits.MAX_CONNECTIONS + 20)]
        assert [client.call() for client in let_in[:5]] == ["grpc 0"] * 5
        assert not let_in[-1].listen()


def test_flood_of_calls_over_many_connections_is_limited(service: ServiceProcess) -> None:
    """Calls beyond the limit of the process are refused, so that the client makes them elsewhere."""
    with ExitStack() as clients:
        many = [clients.enter_context(Stranger(service.port)) for _ in range(15)]
        for client in many:
            for _ in range(limits.MAX_STREAMS):
                client.ask(path="/echo.Echo/Gather")
        assert many[-1].answer(many[-1].ask(path="/echo.Echo/Gather")) == "reset 7"


def test_client_that_reads_nothing_delays_no_other(service: ServiceProcess) -> None:
    """Open a hundred endless streams without reading any of them."""
    with Stranger(service.port) as client:
        client.listen()  # for the window
        for _ in range(limits.MAX_STREAMS - 10):
            client.ask(enveloped(b"\x10\xff\xff\xff\x07\x1a\x80\x08" + b"x" * 1024), path="/echo.Echo/Repeat")
