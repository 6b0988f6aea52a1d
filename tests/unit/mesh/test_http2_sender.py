"""The sender sends everything in order, however little the kernel takes at once."""

from __future__ import annotations

from contextlib import suppress

import eventlet
import pytest
from eventlet.green import socket

from nameko_mesh.grpc.http2.sender import Sender


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield ours, theirs
    ours.close()
    theirs.close()


class Source:
    """A producer that returns the given pieces."""

    def __init__(self):
        self.pieces = []
        self.sent = 0

    def produce(self):
        made, self.pieces = b"".join(self.pieces), []
        return made

    def on_sent(self):
        self.sent += 1


def received(sock, size):
    data = b""
    while len(data) < size:
        data += sock.recv(65536)
    return data


def test_data_that_the_kernel_takes_needs_no_green_thread(ends):
    ours, theirs = ends
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)

    source.pieces.append(b"at once")
    sender.send_now()

    assert source.sent == 1
    assert not sender._sending
    assert theirs.recv(100) == b"at once"


def test_data_that_the_kernel_refuses_follows_in_order(ends):
    ours, theirs = ends
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)
    large = bytes(range(256)) * 4000

    source.pieces.append(large)
    sender.send_now()
    assert source.sent == 0
    source.pieces.append(b"the next")
    sender.send_now()  # a green thread is sending: the data leaves with the rest
    source.pieces.append(b" and another")
    sender.send_soon()

    assert received(theirs, len(large) + 20) == large + b"the next and another"
    eventlet.sleep(0)
    assert source.sent >= 1


def test_full_socket_loses_no_data(ends):
    ours, theirs = ends
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += ours.fd.send(b"x" * 1000)

    source.pieces.append(b"then this")
    sender.send_now()

    assert received(theirs, filled + 9) == b"x" * filled + b"then this"


def test_disconnected_client_ends_the_sender(ends):
    ours, theirs = ends
    theirs.close()
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)

    source.pieces.append(b"nobody reads this")
    sender.send_now()

    assert sender._closed
    assert source.sent == 0


def test_sender_without_data_starts_no_green_thread_and_reports(ends):
    ours, _ = ends
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)

    sender.send_if_any()

    assert not sender._sending
    assert source.sent == 1


def test_data_is_sent_soon(ends):
    ours, theirs = ends
    source = Source()
    sender = Sender(ours, source.produce, source.on_sent)

    source.pieces.append(b"something")
    sender.send_if_any()

    assert source.sent == 0
    assert theirs.recv(100) == b"something"
    eventlet.sleep(0)
    assert source.sent == 1
