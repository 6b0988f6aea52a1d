"""Responses of one piece beside others on one connection, read by h2's own client."""

from __future__ import annotations

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes

from nameko_mesh.grpc.http2 import unary_response
from nameko_mesh.grpc.http2.streams import ResponseStream

HEADERS = ((":status", "200"), ("content-type", "application/grpc+proto"))
TRAILERS = (("grpc-status", "0"),)
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "b")]


class Pair:
    """A server's h2, and a client's that is told all of it."""

    def __init__(self):
        self.server = H2Connection(H2Configuration(client_side=False))
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.server.initiate_connection()
        self.client.initiate_connection()
        self.exchange()

    def exchange(self):
        self.server.receive_data(self.client.data_to_send())
        return self.client.receive_data(self.server.data_to_send())

    def call(self):
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST, end_stream=True)
        self.exchange()
        return stream_id

    def answers(self):
        """Of each stream: headers, data and trailers."""
        found = {}
        for event in self.exchange():
            match event:
                case events.ResponseReceived() | events.TrailersReceived():
                    found.setdefault(event.stream_id, []).append(list(event.headers))
                case events.DataReceived():
                    found.setdefault(event.stream_id, []).append(event.data)
        return found

    def step_by_step(self, stream_id):
        """By h2, which notes the headers in its table for later ones to refer to."""
        self.server.send_headers(stream_id, [*HEADERS, ("x-noted", "yes")])
        self.server.send_data(stream_id, b"ab")
        self.server.send_headers(stream_id, [("grpc-status", "0"), ("x-noted", "yes")], end_stream=True)


@pytest.fixture
def pair():
    return Pair()


def test_it_is_read_whatever_leaves_before_and_after_it(pair):
    ids = [pair.call() for _ in range(6)]
    for number, stream_id in enumerate(ids):
        if number % 2:
            pair.step_by_step(stream_id)
        else:
            unary_response.send(pair.server, stream_id, HEADERS, b"12345", TRAILERS)

    by_h2 = [[*HEADERS, ("x-noted", "yes")], b"ab", [("grpc-status", "0"), ("x-noted", "yes")]]
    at_once = [[*HEADERS], b"12345", [("grpc-status", "0")]]
    assert pair.answers() == {stream_id: [at_once, by_h2][number % 2] for number, stream_id in enumerate(ids)}


def test_it_counts_against_both_windows_and_ends_its_stream(pair):
    first, other = pair.call(), pair.call()
    room = unary_response.room_for(pair.server, other)
    window = pair.server.outbound_flow_control_window
    unary_response.send(pair.server, first, HEADERS, bytes(room), TRAILERS)

    assert pair.server.outbound_flow_control_window == window - room
    assert pair.client.inbound_flow_control_window == window
    assert pair.answers()[first][1] == bytes(room)
    assert pair.client.inbound_flow_control_window == window - room
    with pytest.raises(StreamClosedError):
        unary_response.send(pair.server, first, HEADERS, b"1", TRAILERS)
    unary_response.send(pair.server, other, HEADERS, b"1", TRAILERS)
    assert pair.answers()[other][1] == b"1"


def test_there_is_no_more_room_than_a_frame_and_a_window_have(pair):
    stream_id = pair.call()
    assert unary_response.room_for(pair.server, stream_id) == pair.server.max_outbound_frame_size
    small = pair.call()
    pair.server.send_headers(small, HEADERS)
    pair.server.send_data(small, bytes(16384))
    pair.server.send_data(small, bytes(16384))
    pair.server.send_data(small, bytes(16384))
    pair.server.send_data(small, bytes(16000))
    assert unary_response.room_for(pair.server, stream_id) == 65535 - 3 * 16384 - 16000


@pytest.mark.parametrize("size", [0, 1024, 65536])
def test_a_client_may_change_the_size_of_its_table_at_any_time(pair, size):
    before = pair.call()
    pair.step_by_step(before)
    unary_response.send(pair.server, pair.call(), HEADERS, b"12345", TRAILERS)
    pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
    pair.exchange()  # the settings are acknowledged
    pair.exchange()
    after = [pair.call() for _ in range(3)]
    unary_response.send(pair.server, after[0], HEADERS, b"12345", TRAILERS)
    pair.step_by_step(after[1])
    unary_response.send(pair.server, after[2], HEADERS, b"12345", TRAILERS)

    answers = pair.answers()
    assert [answers[one][1] for one in after] == [b"12345", b"ab", b"12345"]


@pytest.mark.parametrize("window", [0, 3])
def test_what_a_client_makes_no_room_for_is_not_whole_until_it_does(pair, window):
    before = pair.call()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    pair.exchange()
    after = pair.call()
    response = ResponseStream(after, lambda *_, **__: None, lambda _: None)
    response.buffer.write(b"12345")
    response.close()

    assert (
        unary_response.room_for(pair.server, before) == unary_response.room_for(pair.server, after) == window
    )
    assert not response.is_whole(unary_response.room_for(pair.server, after))
    pair.client.increment_flow_control_window(5, after)
    pair.exchange()
    assert response.is_whole(unary_response.room_for(pair.server, after))
    unary_response.send(pair.server, after, HEADERS, b"12345", TRAILERS)
    assert pair.answers()[after][1] == b"12345"


def test_only_headers_that_come_again_are_kept():
    assert unary_response.is_usual(HEADERS)
    assert unary_response.is_usual([["grpc-status", "0"]])
    assert not unary_response.is_usual([*TRAILERS, ("x-request-id", "7")])
    assert not unary_response.is_usual([["grpc-message", "one of a kind"]])


def test_a_client_that_has_reset_the_stream_is_sent_nothing(pair):
    stream_id = pair.call()
    pair.client.reset_stream(stream_id)
    pair.exchange()

    with pytest.raises(StreamClosedError):
        unary_response.send(pair.server, stream_id, HEADERS, b"1", TRAILERS)
    assert pair.answers() == {}
