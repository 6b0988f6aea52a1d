"""The two halves of a gRPC call on the server's side, each with a bound on what it holds.

What has come in is acknowledged to the client as it is read: who sends faster than a method reads is
made to wait. What all calls of the process hold together is bounded too, for many small holds are a
large one.
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
"""What Python needs for a message beside its bytes: a million empty ones are no small thing."""


class Buffer(ByteBuffer):
    def read(self, max_bytes: int | None = None) -> bytes:
        with memoryview(self.bytes) as view:
            data = bytes(view[:max_bytes])
        del self.bytes[: len(data)]  # unlike a slice of the rest it copies nothing
        return data


class RequestStream(ReceiveStream):
    """`acknowledge(size)` lets the client send so much more; `held` counts what all requests hold."""

    def __init__(self, stream_id: int, acknowledge: Callable[[int], None], held: Allowance) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()
        self.buffer = Buffer()
        self.ended = False
        """The client has sent all that it will."""
        self._acknowledge = acknowledge
        self._allowance = held
        self._held = self._reading = 0
        self._unread = 0
        self._unacknowledged = 0

    def receive(self, data: bytes, size: int) -> None:
        """`size` is the data with its padding. Raises GrpcError for what is too much."""
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
        cut_off = None if self.buffer.empty() else _unreadable()
        self.close(cut_off)

    def consume(self, message_type: Callable[[], Any], seconds: float | None = None) -> Iterator[Any]:
        """Raises GrpcError for what can't be read, was closed with one, or did not come in time.

        A message counts as held until the next one is asked for, or the iterator is closed.
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
                del item  # it may be large
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

    def drop(self) -> None:
        """The call has ended: nobody reads what has come, or still comes."""
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
            raise GrpcError(StatusCode.DEADLINE_EXCEEDED, "the request did not come in time") from None

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
    """Of gzip or zlib, whichever it is. A small message may be a very large one in disguise."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    plain = unpacking.decompress(data, MAX_MESSAGE_BYTES + 1)
    if len(plain) > MAX_MESSAGE_BYTES:
        raise _too_large()
    if not unpacking.eof:
        raise _unreadable()
    return plain


def _too_large() -> GrpcError:
    return GrpcError(StatusCode.RESOURCE_EXHAUSTED, f"a message may have {MAX_MESSAGE_BYTES} bytes at most")


def _unreadable() -> GrpcError:
    return GrpcError(StatusCode.INTERNAL, "the request can't be read")


class ResponseStream(SendStream):
    """Wakes its connection when there is something to send, and makes its producer wait when there is
    too much of it. `on_done` hears when the work for the call has ended."""

    def __init__(self, stream_id: int, wake: Callable[..., None], on_done: Callable[[int], None]) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()  # holds the end alone
        self.buffer = Buffer()
        self.deadline: float | None = None
        """Unix seconds, after which nobody waits for the response; `timer` closes the stream then."""
        self.timer: Any = None
        self.working = True
        self.took_at = time.monotonic()
        """When the client last took something, or there was nothing to take."""
        self._room: Event | None = None
        self._wake = wake
        self._on_done = on_done

    @property
    def exhausted(self) -> bool:
        return bool(self.closed and self.buffer.empty())

    def is_whole(self, most: int) -> bool:
        """Whether all of it is there, none of it has left, and its messages have no more bytes than that."""
        return bool(self.closed and not self.headers_sent and 0 < len(self.buffer) <= most)

    def populate(self, iterable: Iterable[Any]) -> None:
        """Send each message, then the end. Raises what the iterable raises, and for what is no message."""
        for message in iterable:
            if not self._has_room():
                return
            self._put(message)
            self._wake(self.stream_id)
        self.close()

    def answer(self, message: Any) -> None:
        """Send the one message there is, and the end with it. Raises for what is no message."""
        if not self.closed:
            self._put(message)
            self.close(at_once=True)

    def _put(self, message: Any) -> None:
        is_packed, body = compress(message.SerializeToString(), self.encoding)
        if self.buffer.empty():
            self.took_at = time.monotonic()
        self.buffer.write(_PREFIX.pack(is_packed, len(body)) + body)

    def _has_room(self) -> bool:
        """Waits for the client, and says whether it still reads."""
        while len(self.buffer) >= _MAX_BUFFERED_BYTES and not self.closed:
            self._room = Event()
            if not self._room.wait(SEND_SECONDS):
                self.close(GrpcError(StatusCode.DEADLINE_EXCEEDED, "nobody reads the response"))
        return not self.closed

    def close(self, error: GrpcError | None = None, *, at_once: bool = False) -> None:
        """What was produced before is sent all the same: an error comes after it. `at_once` is for who may
        send it from where this is called."""
        if self.closed:
            return
        if self.timer is not None:
            self.timer.cancel()
        if error is not None:
            self.trailers.set(*error.as_headers())
        super().close()
        self._make_room()
        self._wake(self.stream_id, at_once=at_once)

    def drop(self) -> None:
        """Nobody waits for it any more: its producer is told at its next message."""
        self.buffer.discard()
        self.close()

    def done(self) -> None:
        self.working = False
        self._on_done(self.stream_id)

    def flush_queue_to_buffer(self) -> None:
        """There are no messages in the queue."""

    def read(self, max_bytes: int, chunk_size: int) -> Iterator[bytes]:
        for chunk in super().read(max_bytes, chunk_size):
            self.took_at = time.monotonic()
            yield chunk
        if len(self.buffer) < _MAX_BUFFERED_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
