"""What leaves a connection: one green thread, for as long as there is something to be sent."""

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
    """`produce` gives what can be sent now, and never waits; `on_sent` is called when all has left."""

    def __init__(self, sock: Any, produce: Callable[[], bytes], on_sent: Callable[[], None]) -> None:
        self._sock = sock
        self._raw = sock.fd if isinstance(sock, GreenSocket) else None
        """What sends without waiting; with TLS there is none."""
        self._produce = produce
        self._on_sent = on_sent
        self._unsent = bytearray()
        self._sending = self._closed = False
        self._took = Event()

    def send_soon(self) -> None:
        if not self._sending and not self._closed:
            self._sending = True
            eventlet.spawn(self._send)

    def send_if_any(self) -> None:
        """What can be sent, if there is something."""
        self._unsent += self._produce()
        if self._unsent:
            self.send_soon()
        elif not self._sending and not self._closed:
            self._on_sent()

    def send_now(self) -> None:
        """What the kernel takes at once, without another green thread; what it does not take follows."""
        if self._raw is None or self._sending or self._closed:
            self.send_soon()
            return
        data, sent = b"", 0
        self._sending = True  # what is produced need wake nobody
        try:
            data = self._next()
            with suppress(BlockingIOError):
                sent = self._raw.send(data)
        except OSError as error:
            self._lose(error)
        finally:
            self._sending = False
        if sent == len(data):
            self._on_sent()
        else:
            self._unsent += data[sent:]
            self.send_soon()

    def wait_for_the_client(self) -> None:
        """Who asks for much and takes nothing is not listened to."""
        while len(self._unsent) > _MAX_UNSENT_BYTES and self._sending:
            self._took.clear()
            self._took.wait(SEND_SECONDS)

    def close(self) -> None:
        """Nothing more is sent; what was is not lost, as it is when the socket is closed with something
        unread in it."""
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """The connection ends: the client is told why, if it can be told at once."""
        if not self._sending and not self._closed:
            with suppress(OSError):
                self._sock.settimeout(0)
                self._sock.send(self._unsent + self._produce())
        self._closed = True

    def hang_up(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes who reads, and who sends

    def _send(self) -> None:
        try:
            while not self._closed and (data := self._next()):
                self._sock.sendall(data)
                self._took.set()
            self._on_sent()
        except Exception as error:  # of the client's making, mostly; it must not end the process
            self._lose(error)
        finally:
            self._sending = False
            self._took.set()

    def _lose(self, error: Exception) -> None:
        log.info("a gRPC client is gone: %s", error)
        self.hang_up()

    def _next(self) -> bytes:
        data = bytes(self._unsent + self._produce())
        self._unsent.clear()
        return data
