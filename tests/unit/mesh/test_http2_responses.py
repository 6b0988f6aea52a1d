"""Responses of the HTTP/2 server, as h2's own client reads them."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes

from nameko_mesh.grpc.http2 import limits
from nameko_mesh.grpc.http2.connection import HEADERS, TRAILERS, Connection
from nameko_mesh.grpc.http2.sender import Sender

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a"),
    (":authority", "b"),
    ("content-type", "application/grpc"),
]
ENCODING = ("grpc-encoding", "identity")


class Pair:
    """A server's connection and h2's client, without a socket."""

    def __init__(self):
        self.responses = {}
        self.server = Connection(None, self._handle_request, limits.SharedLimits())
        self.server.conn.initiate_connection()
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.exchange()

    def _handle_request(self, request, response):
        self.responses[request.stream_id] = response

    def exchange(self):
        for event in self.server.conn.receive_data(self.client.data_to_send()):
            if (handle := self.server._handlers.get(type(event))) is not None:
                handle(event)
        return self.client.receive_data(self.server._data_to_send())

    def call(self):
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST, end_stream=True)
        self.exchange()
        return stream_id

    def respond(self, stream_id, data, headers=(), trailers=()):
        response = self.responses[stream_id]
        response.headers.set(*headers)
        response.trailers.set(*trailers)
        response.send_only(BytesValue(value=data))
        response.work_ended()

    def received(self):
        """Return headers, data and trailers of each stream."""
        received = {}
        for event in self.exchange():
            match event:
                case events.ResponseReceived() | events.TrailersReceived():
                    received.setdefault(event.stream_id, []).append(list(event.headers))
                case events.DataReceived():
                    parts = received.setdefault(event.stream_id, [])
                    if parts and isinstance(parts[-1], bytes):
                        parts[-1] += event.data
                    else:
                        parts.append(event.data)
        return received


@pytest.fixture
def pair(monkeypatch):
    for name in ("send_soon", "send_now"):
        monkeypatch.setattr(Sender, name, lambda sender: None)
    return Pair()


def message(data):
    body = BytesValue(value=data).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def as_read(headers):
    by_name = dict(headers)
    return sorted(by_name.items())


def test_constant_headers_and_metadata_alternate_on_one_connection(pair):
    ids = [pair.call() for _ in range(6)]
    for number, stream_id in enumerate(ids):
        metadata = [("x-noted", "yes")] if number % 2 else []
        pair.respond(stream_id, b"12345", metadata, metadata)

    received = pair.received()

    for number, stream_id in enumerate(ids):
        metadata = [("x-noted", "yes")] if number % 2 else []
        first, data, last = received[stream_id]
        assert as_read(first) == as_read([*HEADERS, ENCODING, *metadata])
        assert data == message(b"12345")
        assert as_read(last) == as_read([*TRAILERS, *metadata])


def test_response_counts_against_the_windows_of_stream_and_connection(pair):
    stream_id = pair.call()
    window = pair.client.inbound_flow_control_window
    pair.respond(stream_id, bytes(40_000))

    assert pair.received()[stream_id][1] == message(bytes(40_000))
    assert pair.client.inbound_flow_control_window == window - len(message(bytes(40_000)))
    assert pair.server.conn.outbound_flow_control_window == pair.client.inbound_flow_control_window


@pytest.mark.parametrize("window", [0, 3])
def test_response_waits_until_the_client_grants_a_window(pair, window):
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    pair.exchange()
    stream_id = pair.call()
    pair.respond(stream_id, b"12345")
    sent = message(b"12345")
    early = pair.received()[stream_id]
    assert early[1:] == ([sent[:window]] if window else [])

    pair.client.increment_flow_control_window(len(sent), stream_id)

    data, trailers = pair.received()[stream_id]
    assert (data, trailers) == (sent[window:], list(TRAILERS))


@pytest.mark.parametrize("size", [0, 1024, 65536])
def test_client_may_change_its_header_table_at_any_time(pair, size):
    metadata = [("x-noted", "yes")]
    before, during = pair.call(), pair.call()
    pair.respond(before, b"1", metadata)
    pair.respond(during, b"2")
    pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
    received = pair.received()
    pair.exchange()  # the client acknowledges
    after = [pair.call() for _ in range(3)]
    for stream_id, own in zip(after, ([], metadata, []), strict=True):
        pair.respond(stream_id, b"3", own)

    received |= pair.received()

    assert [received[stream_id][1] for stream_id in (before, during, *after)] == [
        message(data) for data in (b"1", b"2", b"3", b"3", b"3")
    ]


def test_metadata_is_normalized_also_after_a_plain_response(pair):
    first, second = pair.call(), pair.call()
    pair.respond(first, b"1")
    pair.respond(second, b"2", [("X-Noted", " yes ")])

    assert ("x-noted", "yes") in pair.received()[second][0]


def test_forbidden_metadata_is_refused_and_resets_the_stream(pair):
    stream_id = pair.call()
    pair.respond(stream_id, b"1", [(":method", "GET")])

    assert [type(event) for event in pair.exchange()] == [events.StreamReset]


def test_forbidden_metadata_is_refused_also_after_a_valid_response(pair):
    first, second = pair.call(), pair.call()
    pair.server.conn.send_headers(first, HEADERS)

    with pytest.raises(ProtocolError):
        pair.server.conn.send_headers(second, [*HEADERS, (":method", "GET")])


def test_metadata_of_a_response_is_not_sent_with_the_next(pair):
    first, second = pair.call(), pair.call()
    pair.respond(first, b"1", [("x-request-id", "1")], [("grpc-message", "unique 1")])
    pair.respond(second, b"2")
    received = pair.received()

    assert ("x-request-id", "1") in received[first][0]
    assert ("grpc-message", "unique 1") in received[first][-1]
    assert "x-request-id" not in dict(received[second][0])
    assert received[second][-1] == list(TRAILERS)


def test_reset_stream_gets_no_response(pair):
    stream_id = pair.call()
    pair.client.reset_stream(stream_id)
    pair.exchange()
    pair.responses[stream_id].send_only(BytesValue(value=b"1"))
    pair.responses[stream_id].work_ended()

    assert pair.received() == {}
    with pytest.raises(StreamClosedError):
        pair.server.conn.send_headers(stream_id, HEADERS)
