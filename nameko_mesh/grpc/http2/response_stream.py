"""The response of a gRPC call, with a bound on the data that is not sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event
from typing import Any

from eventlet.queue import LightQueue
from grpc import StatusCode
from nameko_grpc.compression import compress
from nameko_grpc.errors import GrpcError
from nameko_grpc.streams import SendStream

from nameko_mesh.grpc.http2.limits import SEND_SECONDS
from nameko_mesh.grpc.http2.message_buffer import PREFIX, MessageBuffer

_MAX_BUFFERED_BYTES = 256 * 1024


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
        self.buffer = MessageBuffer()
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
        self.buffer.write(PREFIX.pack(is_packed, len(body)) + body)

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
        """Drop the response, because the client has gone. The method notices at its next message."""
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
