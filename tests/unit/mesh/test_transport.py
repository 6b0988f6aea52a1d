"""The AMQP transport over a socket pair, and the installed serialization, compared to stock kombu and
py-amqp."""

import inspect
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from struct import pack, unpack
from types import SimpleNamespace
from typing import Any

import amqp as py_amqp
import eventlet
import kombu.serialization
import pytest
from amqp import serialization
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from kombu.utils import json as kombu_json

from nameko_mesh.amqp import publish
from nameko_mesh.amqp.serialization import install
from nameko_mesh.amqp.transport import _Channel, _TCPTransport


@pytest.fixture(autouse=True)
def _installed() -> None:
    install()


def frame(payload: bytes, kind: int = 1, channel: int = 1) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


@pytest.fixture
def ends() -> Iterator[tuple[Any, Any]]:
    """Return a connected transport and the broker's end of its socket."""
    ours, broker = socket.socketpair()
    transport = _TCPTransport("nowhere:1")
    transport.sock = ours
    transport._setup_transport()
    transport.connected = True
    yield transport, broker
    ours.close()
    broker.close()


def test_py_amqp_still_calls_the_overridden_names() -> None:
    """Names that py-amqp may change with its next minor version, so that pyproject.toml has to follow."""
    deliver = inspect.signature(py_amqp.Channel._on_basic_deliver)
    assert list(deliver.parameters) == [
        "self", "consumer_tag", "delivery_tag", "redelivered", "exchange", "routing_key", "msg",
    ]  # fmt: skip
    assert "self._write(" in inspect.getsource(py_amqp.transport._AbstractTransport.write)
    assert "self._setup_transport()" in inspect.getsource(py_amqp.transport._AbstractTransport._init_socket)
    assert "self.Transport(" in inspect.getsource(py_amqp.Connection.connect)
    assert "self.blocking_read(" in inspect.getsource(py_amqp.Connection.drain_events)


def test_frames_arrive_whole_from_pieces_and_from_one_read(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    payloads = [b"", b"one", b"x" * 100_000]

    def send() -> None:
        for byte in frame(payloads[0]) + frame(payloads[1]):
            broker.sendall(bytes([byte]))
            eventlet.sleep(0)
        broker.sendall(frame(payloads[2]) + frame(payloads[1]))

    sender = eventlet.spawn(send)
    with eventlet.Timeout(5):
        read = [transport.read_frame() for _ in range(4)]
        sender.wait()
    assert read == [(1, 1, payload) for payload in (*payloads, payloads[1])]


def test_read_timeout_loses_no_bytes(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    whole = frame(b"in two parts")
    broker.sendall(whole[:9])
    with pytest.raises(TimeoutError), transport.having_timeout(0.02):
        transport.read_frame()
    broker.sendall(whole[9:])
    assert transport.read_frame() == (1, 1, b"in two parts")


def test_frame_without_end_mark_raises(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    broker.sendall(frame(b"one")[:-1] + b"\x00")
    with pytest.raises(UnexpectedFrame):
        transport.read_frame()


def test_closed_connection_raises_for_the_reader(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    broker.close()
    with pytest.raises(OSError, match="closed the connection"):
        transport.read_frame()
    assert not transport.connected


def test_writes_of_one_hub_turn_leave_in_one_packet_in_order(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    shared = bytearray(b"1st ")
    transport.write(memoryview(shared))
    shared[:] = b"2nd "  # py-amqp packs all its frames into one buffer
    transport.write(memoryview(shared))
    broker.setblocking(False)
    with pytest.raises(BlockingIOError):
        broker.fd.recv(100)
    broker.setblocking(True)
    assert broker.recv(100) == b"1st 2nd "


def test_slow_peer_receives_all_bytes_once(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    pieces = [bytes([number]) * 200_000 for number in range(10)]
    for piece in pieces:
        transport.write(piece)
        eventlet.sleep(0)  # the socket is full: the next ones wait for it
    received = b""
    with eventlet.Timeout(5):
        while len(received) < 2_000_000:
            received += broker.recv(65536)
    assert received == b"".join(pieces)


def test_failed_write_raises_for_the_next_writer_and_the_reader(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    broker.close()
    transport.write(b"nobody reads this")
    eventlet.sleep(0)
    with pytest.raises(OSError, match=r"pipe|reset"):
        transport.write(b"nor this")
    with eventlet.Timeout(5), pytest.raises(OSError, match=r"closed|reset"):
        transport.read_frame()


@pytest.mark.parametrize(
    "value",
    [
        {"text": "é", "number": 1.5, "list": [1, None, True]},
        {"at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)},
        {"money": Decimal("1.10")},
        {"large": 2**63},
        {1: "a key that is no text"},
    ],
)
def test_values_without_json_type_travel_as_with_stock_kombu(value: dict[Any, Any]) -> None:
    content_type, encoding, body = kombu.serialization.dumps(value, "json")
    assert (content_type, encoding) == ("application/json", "utf-8")
    as_stock = kombu_json.loads(kombu_json.dumps(value))
    assert kombu_json.loads(body) == as_stock
    assert kombu.serialization.loads(kombu_json.dumps(value), content_type, encoding) == as_stock


def test_last_write_leaves_before_the_close(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    transport.write(b"an ack")
    transport.close()
    assert broker.recv(100) == b"an ack"
    assert broker.recv(100) == b""


def test_malformed_properties_are_read_as_none() -> None:
    correlation_id = pack(">H", 0x0400) + b"\x04AA\xff\xfe"
    properties, _ = serialization.PROPERTY_CLASSES[60](correlation_id, 0)
    assert properties == {}


def test_closed_channel_raises_for_messages_and_acks(ends: tuple[Any, Any]) -> None:
    channel = _Channel.__new__(_Channel)
    channel.channel_id = channel.connection = None
    with pytest.raises(RecoverableConnectionError):
        channel.basic_ack(1)
    with pytest.raises(RecoverableConnectionError):
        publish.send(channel, b"{}", exchange="", routing_key="somewhere")


def test_py_amqp_decodes_a_sent_message(ends: tuple[Any, Any]) -> None:
    transport, broker = ends
    channel = SimpleNamespace(channel_id=3, connection=SimpleNamespace(frame_max=4096, transport=transport))
    headers = {
        "stack": ["a", "b"],
        "when": datetime(2026, 11, 26, tzinfo=UTC),
    }  # a type that only py-amqp has
    publish.send(
        channel,
        b"x" * 5000,
        exchange="there",
        routing_key="to.whom",
        mandatory=True,
        headers=headers,
        correlation_id="c-1",
        reply_to="me",
        expiration="1500",
        message_id="m-1",
    )
    eventlet.sleep(0)
    sent, payloads = broker.recv(65536), []
    while sent:
        kind, number, size = unpack(">BHI", sent[:7])
        assert (number, sent[7 + size]) == (3, 0xCE)
        payloads.append((kind, sent[7 : 7 + size]))
        sent = sent[8 + size :]
    (_, method), (_, header), *bodies = payloads
    message = py_amqp.Message()
    message.inbound_header(header)
    for _, body in bodies:
        message.inbound_body(body)

    assert [kind for kind, _ in payloads] == [1, 2, 3, 3]
    assert serialization.loads("Bssbb", method, 4)[0] == [0, "there", "to.whom", True, False]
    assert message.body == b"x" * 5000
    assert message.properties.pop("application_headers")["stack"] == ["a", "b"]
    assert message.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 1,
        "correlation_id": "c-1",
        "reply_to": "me",
        "expiration": "1500",
        "message_id": "m-1",
    }
