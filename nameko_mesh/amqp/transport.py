"""Kombu's AMQP with fewer system calls and fewer waits: the path that every call and event takes.

py-amqp reads a frame in three system calls and writes each frame in one. Here whatever has arrived is
read at once, and whatever was written during one turn of the hub leaves at once, in its order: the
replies and acks of many calls in one packet. Messages can be sent on a channel that another green
thread reads, which `basic_publish` forbids: it looks for incoming frames itself.

JSON is orjson's, under kombu's name for it. What JSON has no type for looks as kombu has it look, but
for UUIDs, which are text; an integer of more than 64 bits is read as a float.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from struct import Struct
from typing import Any

import eventlet
from amqp import spec, transport
from amqp.exceptions import UnexpectedFrame
from kombu.connection import Connection
from kombu.transport import pyamqp

from nameko_mesh.amqp import frames

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_HEAD = Struct(">BHI")


class _Coalescing:
    """Goes before a transport of py-amqp. One green thread reads; any may write, and none waits for it:
    what waits to leave is bounded by what the consumers of the connection hold."""

    sock: Any
    connected: bool

    def _setup_transport(self) -> None:
        super()._setup_transport()  # type: ignore[misc]
        self._write = self._send_soon
        self._received = b""
        self._position = 0
        self._outgoing: list[bytes] = []
        self._sending = False
        self._is_between_frames = True
        self._failure: OSError | None = None

    def read_frame(self, unpack: object = None) -> tuple[int, int, bytes]:
        """Raises socket.timeout, with nothing lost, and OSError when the connection is gone."""
        while (frame := self.arrived()) is None:
            self._received, self._position = self._received[self._position :] + self._read_some(), 0
        return frame

    def arrived(self) -> tuple[int, int, bytes] | None:
        """The next frame, if all of it is here already."""
        data, start = self._received, self._position
        if len(data) - start < _HEAD.size:
            return None
        kind, channel, size = _HEAD.unpack_from(data, start)
        end = start + _HEAD.size + size
        if len(data) <= end:
            return None
        if data[end] != frames.END:
            raise UnexpectedFrame(f"a frame ends with {data[end]:#04x}")
        self._position = end + 1
        return kind, channel, data[start + _HEAD.size : end]

    def _read_some(self) -> bytes:
        try:
            data = self.sock.recv(_READ_BYTES)
        except TimeoutError:
            raise
        except OSError:
            self.connected = False
            raise
        if not data:
            self.connected = False
            raise OSError("the broker closed the connection")
        return bytes(data)

    def _send_soon(self, data: bytes | memoryview) -> None:
        if self._failure is not None:
            raise self._failure
        self._outgoing.append(bytes(data))  # py-amqp uses its buffer again
        if not self._sending:
            self._sending = True
            eventlet.spawn(self._send, self.sock)

    def _send(self, sock: Any) -> None:
        """Ends when nothing is left to send, or nothing can be sent any more."""
        try:
            while self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                self._is_between_frames = False
                left = memoryview(data)
                while left:
                    with suppress(TimeoutError):  # the reader's own limit, which lies on the same socket
                        left = left[sock.send(left) :]
                self._is_between_frames = True
        except OSError as error:
            self._failure = error
            self.connected = False
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, if it has not noticed
        finally:
            self._sending = False


class _TCP(_Coalescing, transport.TCPTransport):
    def close(self) -> None:
        """What was written last leaves as well, if it can without a wait: an ack that is lost is a message
        that comes twice."""
        if self.sock is not None and self._outgoing and self._is_between_frames:
            with suppress(OSError):
                self.sock.fd.send(b"".join(self._outgoing))
            self._outgoing.clear()
        super().close()


class _TLS(_Coalescing, transport.SSLTransport):
    pass


class _Channel(pyamqp.Channel):
    def dispatch_method(self, method_sig: Any, payload: bytes, content: Any) -> None:
        """py-amqp's, for what comes most often."""
        if method_sig != spec.Basic.Deliver or self.is_closing:
            super().dispatch_method(method_sig, payload, content)
            return
        if content.body and (encoding := content.properties.get("content_encoding")):
            with suppress(LookupError, ValueError):
                content.body = content.body.decode(encoding)
        self._on_basic_deliver(*frames.read_delivery(payload), content)

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: str = "Lb") -> None:
        if multiple or self.connection is None:
            super().basic_ack(delivery_tag, multiple, argsig)
        else:
            self.connection.transport.write(frames.ack(self.channel_id, delivery_tag))


class _Connection(pyamqp.Connection):
    Channel = _Channel

    def Transport(
        self, host: str, connect_timeout: float, ssl: Any = False, *timeouts: Any, **options: Any
    ) -> Any:
        """py-amqp's hook for the choice of a transport, under its name."""
        kind = _TLS if ssl else _TCP
        names = zip(("read_timeout", "write_timeout"), timeouts, strict=False)
        return kind(host, connect_timeout=connect_timeout, ssl=ssl, **dict(names), **options)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """py-amqp's, but no limit of a wait is set for what has arrived already."""
        if (frame := self.transport.arrived()) is not None:
            return self.on_inbound_frame(frame)
        return super().blocking_read(timeout)


class _Transport(pyamqp.Transport):
    Connection = _Connection


def connection(uri: str, **options: Any) -> Connection:
    """Kombu's connection to RabbitMQ, on this wire; the options are kombu's."""
    return Connection(uri, transport=_Transport, **options)
