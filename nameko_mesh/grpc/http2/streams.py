"""The request and the response of a gRPC call on the server, each with a bound on its buffer.

Received data is acknowledged as the method reads it, so a client that sends faster has to wait. All requests
of the process have a common bound too.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from queue import Empty
from threading import Event
from typing import Any

from eventlet.queue import LightQueue
from grpc import StatusCode
from nameko_grpc.compression import compress
from nameko_grpc.errors import GrpcError
from nameko_grpc.streams import STREAM_END, ByteBuffer, ReceiveStream, SendStream

from nameko_mesh.grpc.http2.limits import MAX_MESSAGE_BYTES, MAX_UNREAD_BYTES, SEND_SECONDS, Allowance

_MAX_BUFFERED_BYTES = 256 * 1024
_PREFIX = struct.Struct(">BI")
_OVERHEAD_BYTES = 256
"""The memory of a Python object for a message, in addition to its bytes. Empty messages are not free."""


class Buffer(ByteBuffer):
    def read(self, max_bytes: int | None = None) -> bytes:
        with memoryview(self.bytes) as view:
            data = bytes(view[:max_bytes])
        del self.bytes[: len(data)]  # slicing the rest would copy it
        return data


class RequestStream(ReceiveStream):
    """The messages of a client.

    `acknowledge(size)` lets the client send so many bytes more. `held` is the budget of all requests.
    """

    def __init__(self, stream_id: int, acknowledge: Callable[[int], None], held: Allowance) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()
        self.buffer = Buffer()
        self.ended = False
        """True after the client has sent the end of the request."""
        self._acknowledge = acknowledge
        self._allowance = held
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
        while len(received) >= _PREFIX.size:
            is_packed, length = _PREFIX.unpack_from(received)
            if length > MAX_MESSAGE_BYTES:
                raise _too_large()
            if len(received) < _PREFIX.size + length:
                return
            self._hold(_OVERHEAD_BYTES)
            self.buffer.discard(_PREFIX.size)
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
            self._reading = size + _PREFIX.size
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
                data = _unpacked(data)
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


def _unpacked(data: bytes) -> bytes:
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


class ResponseStream(SendStream):
    """The messages of a method.

    The stream wakes its connection when there is something to send, and makes the method wait while too much
    is unsent. `on_work_ended` is called when the method has ended.
    """

    def __init__(
        self, stream_id: int, wake: Callable[..., None], on_work_ended: Callable[[int], None]
    ) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()  # holds only the end marker
        self.buffer = Buffer()
        self.deadline: float | None = None
        """Unix seconds. `timer` closes the stream at that time."""
        self.timer: Any = None
        self.is_working = True
        self.last_read_at = time.monotonic()
        """The time.monotonic() of the last read, or of the last moment with an empty buffer."""
        self._room: Event | None = None
        self._wake = wake
        self._on_work_ended = on_work_ended

    @property
    def exhausted(self) -> bool:
        return bool(self.closed and self.buffer.empty())

    @property
    def must_send_headers(self) -> bool:
        """True from the first message, or the end, until the headers are sent."""
        return not self.headers_sent and bool(self.closed or not self.buffer.empty())

    def populate(self, iterable: Iterable[Any]) -> None:
        """Send each message, then the end. Raises the iterable's errors, and an error for a wrong type."""
        for message in iterable:
            if not self._has_room():
                return
            self._put(message)
            self._wake(self.stream_id)
        self.close()

    def send_only(self, message: Any) -> None:
        """Send a single message together with the end. Raises an error for a wrong type."""
        if not self.closed:
            self._put(message)
            self.close(immediately=True)

    def _put(self, message: Any) -> None:
        is_packed, body = compress(message.SerializeToString(), self.encoding)
        if self.buffer.empty():
            self.last_read_at = time.monotonic()
        self.buffer.write(_PREFIX.pack(is_packed, len(body)) + body)

    def _has_room(self) -> bool:
        """Wait until the buffer has room. Return False if the stream is closed."""
        while len(self.buffer) >= _MAX_BUFFERED_BYTES and not self.closed:
            self._room = Event()
            if not self._room.wait(SEND_SECONDS):
                self.close(GrpcError(StatusCode.DEADLINE_EXCEEDED, "the client does not read the response"))
        return not self.closed

    def close(self, error: GrpcError | None = None, *, immediately: bool = False) -> None:
        """End the response. The messages before an error are sent nevertheless.

        With `immediately` the connection may send from within this call.
        """
        if self.closed:
            return
        if self.timer is not None:
            self.timer.cancel()
        if error is not None:
            self.trailers.set(*error.as_headers())
        super().close()
        self._make_room()
        self._wake(self.stream_id, immediately=immediately)

    def discard(self) -> None:
        """Drop the response, because nobody waits for it. The method notices at its next message."""
        self.buffer.discard()
        self.close()

    def work_ended(self) -> None:
        self.is_working = False
        self._on_work_ended(self.stream_id)

    def flush_queue_to_buffer(self) -> None:
        """Do nothing: the queue holds no messages here, unlike in nameko-grpc."""

    def read(self, max_bytes: int, chunk_size: int) -> Iterator[bytes]:
        for chunk in super().read(max_bytes, chunk_size):
            self.last_read_at = time.monotonic()
            yield chunk
        if len(self.buffer) < _MAX_BUFFERED_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
