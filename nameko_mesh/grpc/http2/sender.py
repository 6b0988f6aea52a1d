"""Writes to the socket of a connection, in a green thread that runs while there is data."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any

import eventlet
from eventlet.greenio import GreenSocket

from nameko_mesh.grpc.http2.limits import SEND_SECONDS

log = logging.getLogger(__name__)

_MAX_UNSENT_BYTES = 1024 * 1024


class Sender:
    """Sends the bytes of `produce`, which must not wait. `on_sent` is called after the last byte."""

    def __init__(self, sock: Any, produce: Callable[[], bytes], on_sent: Callable[[], None]) -> None:
        self._sock = sock
        self._nonblocking = sock.fd if isinstance(sock, GreenSocket) else None
        """The socket underneath, whose `send` never waits. None with TLS."""
        self._produce = produce
        self._on_sent = on_sent
        self._unsent = bytearray()
        self._sending = self._closed = False
        self._progress = Event()

    def send_soon(self) -> None:
        """Send in a green thread, unless one is sending already."""
        if not self._sending and not self._closed:
            self._sending = True
            eventlet.spawn(self._send)

    def add(self, data: bytes) -> None:
        """Send `data` soon, after the data that is waiting already."""
        if data:
            self._unsent += data
            self.send_soon()

    def send_if_any(self) -> None:
        """Send soon if there is data, without a green thread if there is none."""
        self._unsent += self._produce()
        if self._unsent:
            self.send_soon()
        elif not self._sending and not self._closed:
            self._on_sent()

    def send_now(self) -> None:
        """Send what the kernel accepts at once, in this green thread. Send the rest soon."""
        if self._nonblocking is None or self._sending or self._closed:
            self.send_soon()
            return
        data, sent = b"", 0
        self._sending = True  # producing the data must not start another sender
        try:
            data = self._next()
            with suppress(BlockingIOError):
                sent = self._nonblocking.send(data)
        except OSError as error:
            self._disconnect(error)
        finally:
            self._sending = False
        if sent == len(data):
            self._on_sent()
        else:
            self._unsent += data[sent:]
            self.send_soon()

    def wait_for_client(self) -> None:
        """Wait while too much is unsent. A client that does not read must not cause more responses."""
        while len(self._unsent) > _MAX_UNSENT_BYTES and self._sending:
            self._progress.clear()
            self._progress.wait(SEND_SECONDS)

    def close(self) -> None:
        """Send nothing more, but keep reading.

        Closing a socket with unread data resets the connection, and the client may lose sent responses.
        """
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Send the last frames, such as the GOAWAY, if the kernel takes them at once."""
        if not self._sending and not self._closed:
            with suppress(OSError):
                self._sock.settimeout(0)
                self._sock.send(self._unsent + self._produce())
        self._closed = True

    def hang_up(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reading and the sending green thread

    def _send(self) -> None:
        try:
            while not self._closed and (data := self._next()):
                self._sock.sendall(data)
                self._progress.set()
            self._on_sent()
        except Exception as error:  # mostly an error of the client, which must not end the process
            self._disconnect(error)
        finally:
            self._sending = False
            self._progress.set()

    def _disconnect(self, error: Exception) -> None:
        log.info("a gRPC client disconnected: %s", error)
        self.hang_up()

    def _next(self) -> bytes:
        data = bytes(self._unsent + self._produce())
        self._unsent.clear()
        return data
