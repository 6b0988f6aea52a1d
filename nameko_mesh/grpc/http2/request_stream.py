"""The request of a gRPC call, with a bound on the data that it holds.

Received data is acknowledged when the method reads it, so a client that sends faster has to wait. All
requests of the process together have a bound, too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

from eventlet.queue import LightQueue
from grpc import StatusCode
from nameko_grpc.errors import GrpcError
from nameko_grpc.streams import STREAM_END, ReceiveStream

from nameko_mesh.grpc.http2.limits import MAX_MESSAGE_BYTES, MAX_UNREAD_BYTES, Allowance
from nameko_mesh.grpc.http2.message_buffer import PREFIX, MessageBuffer

_OVERHEAD_BYTES = 256
"""The memory of a Python object for a message, in addition to its bytes. It bounds empty messages."""


class RequestStream(ReceiveStream):
    """The messages of a client.

    `acknowledge(size)` lets the client send so many bytes more. `allowance` bounds the bytes of all requests.
    """

    def __init__(self, stream_id: int, acknowledge: Callable[[int], None], allowance: Allowance) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()
        self.buffer = MessageBuffer()
        self.ended = False
        """True after the client has sent the end of the request."""
        self._acknowledge = acknowledge
        self._allowance = allowance
        self._held = self._reading = 0
        self._unread = 0
        self._unacknowledged = 0

    def receive(self, data: bytes, size: int) -> None:
        """Take data from the client. `size` includes padding. Raises GrpcError if a limit is exceeded."""
        self._unacknowledged += size
        try:
            if not self.closed:
                self.write(data)
        finally:
            self._acknowledge_read()

    def write(self, data: bytes) -> None:
        self._hold(len(data))
        received = self.buffer.bytes
        received += data
        while len(received) >= PREFIX.size:
            is_packed, length = PREFIX.unpack_from(received)
            if length > MAX_MESSAGE_BYTES:
                raise _too_large()
            if len(received) < PREFIX.size + length:
                return
            self._hold(_OVERHEAD_BYTES)
            self.buffer.discard(PREFIX.size)
            self.queue.put((is_packed, self.buffer.read(length)))
            self._unread += length + _OVERHEAD_BYTES

    def end(self) -> None:
        self.ended = True
        error = None if self.buffer.empty() else _unreadable()
        self.close(error)

    def consume(self, message_type: Callable[[], Any], seconds: float | None = None) -> Iterator[Any]:
        """Yield the messages. `seconds` is the timeout for each of them.

        Raises GrpcError for an unreadable message, for a timeout, and the error that the stream was closed
        with. A message counts as held until the next one is requested, or the iterator is closed.
        """
        while (item := self._next(seconds)) is not STREAM_END:
            if isinstance(item, GrpcError):
                raise item
            size = len(item[1]) + _OVERHEAD_BYTES
            self._unread -= size
            self._reading = size + PREFIX.size
            self._acknowledge_read()
            try:
                message = self._parsed(message_type(), *item)
                del item  # it may be large, and the method may run long
                yield message
            finally:
                size, self._reading = self._reading, 0
                self._let_go(size)

    def _parsed(self, message: Any, is_packed: int, data: bytes) -> Any:
        try:
            if is_packed:
                data = _decompress(data)
                self._hold(len(data))
                self._reading += len(data)
            message.ParseFromString(data)
        except (zlib.error, ValueError) as error:  # protobuf's DecodeError is a ValueError
            raise _unreadable() from error
        return message

    def discard(self) -> None:
        """Drop all messages, received or still to come, because the call has ended."""
        self.close()
        self.buffer.discard()
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put(STREAM_END)
        self._let_go(self._held - self._reading)
        self._acknowledge_read()

    def _next(self, seconds: float | None) -> Any:
        try:
            return self.queue.get(timeout=seconds)
        except Empty:
            raise GrpcError(StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time") from None

    def _acknowledge_read(self) -> None:
        if self._unacknowledged and (self.closed or self._unread < MAX_UNREAD_BYTES):
            size, self._unacknowledged = self._unacknowledged, 0
            self._acknowledge(size)

    def _hold(self, size: int) -> None:
        if not self._allowance.take(size):
            raise GrpcError(StatusCode.RESOURCE_EXHAUSTED, "the server holds too many requests")
        self._held += size

    def _let_go(self, size: int) -> None:
        self._held -= size
        self._allowance.give_back(size)


def _decompress(data: bytes) -> bytes:
    """Decompress gzip or zlib, but no more than the limit: a small message may decompress to a huge one."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    plain = unpacking.decompress(data, MAX_MESSAGE_BYTES + 1)
    if len(plain) > MAX_MESSAGE_BYTES:
        raise _too_large()
    if not unpacking.eof:
        raise _unreadable()
    return plain


def _too_large() -> GrpcError:
    return GrpcError(StatusCode.RESOURCE_EXHAUSTED, f"a message may have at most {MAX_MESSAGE_BYTES} bytes")


def _unreadable() -> GrpcError:
    return GrpcError(StatusCode.INTERNAL, "the request can't be decoded")
