"""Connections to RabbitMQ through kombu, with fewer system calls per message.

Stock py-amqp reads a frame in three system calls and writes each frame in one. This transport reads all
available bytes at once. It collects all frames written during one iteration of the eventlet hub, and sends
them in one system call:

    reply of call 1, ack of call 1, reply of call 2, ack of call 2    ->    one send()

One green thread may therefore write while another reads the connection. py-amqp's `basic_publish` forbids
that, because it reads incoming frames itself.

Gain: a delivery and its ack take 3 µs in place of 20 (`python -m bench.tricks.amqp`). Delete this
module when py-amqp coalesces reads and writes. Until then pyproject.toml pins py-amqp to its minor version,
because these classes override `_setup_transport`, `_write` and `_on_basic_deliver`.
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

from nameko_mesh.amqp import frames, serialization

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_HEAD = Struct(">BHI")


class _CoalescingTransport:
    """Mixin before a transport of py-amqp. One green thread reads; any may write, and no writer waits.

    The consumers' prefetch counts bound the unsent bytes, because a consumer writes about what it received.
    """

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
        """Return the next frame: type, channel and payload.

        Raises socket.timeout, which loses no bytes, and OSError when the connection is lost.
        """
        while (frame := self.buffered_frame()) is None:
            self._received, self._position = self._received[self._position :] + self._read_some(), 0
        return frame

    def buffered_frame(self) -> tuple[int, int, bytes] | None:
        """Return the next frame when all its bytes are buffered, else None."""
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
        self._outgoing.append(bytes(data))  # a copy, because py-amqp reuses its buffer
        if not self._sending:
            self._sending = True
            eventlet.spawn(self._send, self.sock)

    def _send(self, sock: Any) -> None:
        """Send until nothing is left or the connection fails."""
        try:
            while self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                self._is_between_frames = False
                unsent = memoryview(data)
                while unsent:
                    with suppress(TimeoutError):  # the reader's timeout is set on the same socket
                        unsent = unsent[sock.send(unsent) :]
                self._is_between_frames = True
        except OSError as error:
            self._failure = error
            self.connected = False
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the reader
        finally:
            self._sending = False


class _TCPTransport(_CoalescingTransport, transport.TCPTransport):
    def close(self) -> None:
        """Send the last frames if the socket takes them at once, because a lost ack redelivers a message."""
        if self.sock is not None and self._outgoing and self._is_between_frames:
            with suppress(OSError):
                self.sock.fd.send(b"".join(self._outgoing))
            self._outgoing.clear()
        super().close()


class _TLSTransport(_CoalescingTransport, transport.SSLTransport):
    pass


class _Channel(pyamqp.Channel):
    def dispatch_method(self, method_sig: Any, payload: bytes, content: Any) -> None:
        """Decode Basic.Deliver, the most frequent method, and leave the others to py-amqp."""
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
        """Choose the transport; py-amqp calls this hook by this name."""
        transport_cls = _TLSTransport if ssl else _TCPTransport
        names = zip(("read_timeout", "write_timeout"), timeouts, strict=False)
        return transport_cls(host, connect_timeout=connect_timeout, ssl=ssl, **dict(names), **options)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Take a buffered frame without setting a timeout on the socket, which costs system calls."""
        if (frame := self.transport.buffered_frame()) is not None:
            return self.on_inbound_frame(frame)
        return super().blocking_read(timeout)


class _Transport(pyamqp.Transport):
    Connection = _Connection


def connection(uri: str, **options: Any) -> Connection:
    """Return kombu's connection to RabbitMQ over this transport; the options are kombu's."""
    serialization.install()
    return Connection(uri, transport=_Transport, **options)
