"""nameko-grpc's connections, woken instead of polled, and bounded.

nameko-grpc looks every 10 ms whether there is something to send, which is the least that a call takes.
Here whoever puts something into a stream wakes its connection. What a client can make this process
keep is bounded: the size of a message, packed and unpacked, and what waits for a client that does not
read.
"""

from __future__ import annotations

import logging
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full
from typing import Any

import eventlet
from eventlet.queue import LightQueue
from grpc import StatusCode
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from nameko_grpc.channel import ServerConnectionPool
from nameko_grpc.compression import SUPPORTED_ENCODINGS, compress
from nameko_grpc.connection import ServerConnectionManager
from nameko_grpc.errors import GrpcError
from nameko_grpc.streams import STREAM_END, ReceiveStream, SendStream

from mesh.backoff import back_off

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one message that comes in, also after it was unpacked."""
HANDSHAKE_SECONDS = 5.0
SEND_SECONDS = 60.0
"""A client that takes nothing for so long is gone."""
DRAIN_SECONDS = 5.0
_MOST_BUFFERED = 256 * 1024
_MOST_QUEUED = 64
_READ_BYTES = 64 * 1024


class RequestStream(ReceiveStream):
    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue()

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.buffer) > MAX_MESSAGE_BYTES:
            self.buffer.discard()
            self.close(_too_large())

    def consume(self, message_type: Callable[[], Any]) -> Iterator[Any]:
        """Raises GrpcError for what can't be read, or was closed with one."""
        while (item := self.queue.get()) is not STREAM_END:
            if isinstance(item, GrpcError):
                raise item
            is_compressed, data = item
            message = message_type()
            try:
                message.ParseFromString(_unpacked(data) if is_compressed else data)
            except (zlib.error, ValueError) as error:  # protobuf's DecodeError is a ValueError
                raise GrpcError(StatusCode.INTERNAL, "the request can't be read") from error
            yield message


def _unpacked(data: bytes) -> bytes:
    """Of gzip or zlib, whichever it is. A small message may be a very large one in disguise."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    plain = unpacking.decompress(data, MAX_MESSAGE_BYTES + 1)
    if len(plain) > MAX_MESSAGE_BYTES:
        raise _too_large()
    return plain


def _too_large() -> GrpcError:
    return GrpcError(StatusCode.RESOURCE_EXHAUSTED, f"a message may have {MAX_MESSAGE_BYTES} bytes at most")


class ResponseStream(SendStream):
    """Wakes its connection when there is something to send, and makes its producer wait when there is
    too much of it."""

    def __init__(self, stream_id: int, wake: Callable[[int], None]) -> None:
        super().__init__(stream_id)
        self.queue = LightQueue(_MOST_QUEUED)
        self.deadline: float | None = None
        """Unix seconds, after which nobody waits for the response; `timer` closes the stream then."""
        self.timer: Any = None
        self._wake = wake

    def populate(self, iterable: Iterable[Any]) -> None:
        for message in iterable:
            if self.closed:
                return
            try:
                self.queue.put(message, timeout=SEND_SECONDS)
            except Full:
                self.close(GrpcError(StatusCode.DEADLINE_EXCEEDED, "nobody reads the response"))
                return
            self._wake(self.stream_id)
        self.close()

    def close(self, error: GrpcError | None = None) -> None:
        if self.closed:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.queue.resize(None)  # the end always finds room
        super().close(error)
        self._wake(self.stream_id)

    def flush_queue_to_buffer(self) -> None:
        while len(self.buffer) < _MOST_BUFFERED:
            try:
                message = self.queue.get_nowait()
            except Empty:
                return
            if isinstance(message, GrpcError):
                raise message
            if message is not STREAM_END:
                is_compressed, body = compress(message.SerializeToString(), self.encoding)
                self.buffer.write(struct.pack(">?I", is_compressed, len(body)) + body)


class Connection(ServerConnectionManager):
    """One green thread reads; another sends, for as long as there is something to be sent."""

    def __init__(self, sock: Any, handle_request: Callable[[Any, Any], None]) -> None:
        super().__init__(sock, handle_request)
        self.conn = H2Connection(config=H2Configuration(client_side=False))
        self._ready: set[int] = set()
        self._sending = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.RequestReceived: self.request_received,
            events.DataReceived: self.data_received,
            events.StreamEnded: self.stream_ended,
            events.StreamReset: self.stream_reset,
            events.WindowUpdated: self.window_updated,
            events.RemoteSettingsChanged: self.settings_changed,
            events.ConnectionTerminated: self.connection_terminated,
        }

    def run_forever(self) -> None:
        self.conn.initiate_connection()
        with self.cleanup_on_exit():
            self._send_soon()
            while self.run and (data := self._read()):
                for event in self.conn.receive_data(data):
                    if (handle := self._handlers.get(type(event))) is not None:
                        handle(event)
                self._send_soon()

    def _read(self) -> bytes:
        while True:
            with suppress(TimeoutError):  # an idle connection is no dead one: see the keepalive of the socket
                return bytes(self.sock.recv(_READ_BYTES))

    def say_goodbye(self) -> None:
        """Ask the client for no more calls; those that it has made are answered."""
        if self.alive:
            self.conn.close_connection()
            self.terminating = True
            self._send_soon()

    def stop(self) -> None:
        self.say_goodbye()
        if not self.stopped.wait(DRAIN_SECONDS):
            self._hang_up()

    def wake(self, stream_id: int) -> None:
        self._ready.add(stream_id)
        self._send_soon()

    def _send_soon(self) -> None:
        if not self._sending and not self.stopped.is_set():
            self._sending = True
            eventlet.spawn(self._send)

    def _send(self) -> None:
        """Ends when nothing is left to send. Nothing but the socket makes it wait, so that no other
        green thread sees h2 in the middle of something."""
        try:
            while True:
                while self._ready:
                    stream_id = self._ready.pop()
                    self.send_headers(stream_id)
                    self.send_data(stream_id)
                data = self.conn.data_to_send()
                if not data:
                    break
                self.sock.sendall(data)
        except Exception as error:
            log.info("a gRPC client is gone: %s", error)
            self._hang_up()
        finally:
            self._sending = False
        if self.terminating and not self.send_streams:
            self._hang_up()

    def _hang_up(self) -> None:
        self.run = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes who reads

    def request_received(self, event: Any) -> None:
        stream_id = event.stream_id
        request = self.receive_streams[stream_id] = RequestStream(stream_id)
        response = self.send_streams[stream_id] = ResponseStream(stream_id, self.wake)
        request.headers.set(*event.headers, from_wire=True)
        response.trailers.set(("grpc-status", "0"))
        # As grpcio's servers do: who packs gets it packed, and nobody else pays for it.
        used = request.headers.get("grpc-encoding", "identity")
        response.headers.set(
            (":status", "200"),
            ("content-type", "application/grpc+proto"),
            ("grpc-accept-encoding", ",".join(SUPPORTED_ENCODINGS)),
            ("grpc-encoding", used if used in SUPPORTED_ENCODINGS else "identity"),
        )
        try:
            self.handle_request(request, response)
        except GrpcError as error:
            response.close(error)

    def window_updated(self, event: Any) -> None:
        self._ready.update([event.stream_id] if event.stream_id else self.send_streams)

    def settings_changed(self, event: Any) -> None:
        self._ready.update(self.send_streams)  # the window of each may have grown


class ConnectionPool(ServerConnectionPool):
    """Takes its port alone: a second process on it would get half of the calls, unnoticed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[Connection] = set()

    def listen(self) -> Any:
        return eventlet.listen((self.host, self.port), reuse_port=False)

    def run(self) -> None:
        failures = 0
        while self.is_accepting:
            try:
                sock, _ = self.listening_socket.accept()
            except OSError as error:
                if self.is_accepting:
                    failures += 1
                    log.warning("a gRPC client could not be accepted: %s", error)
                    eventlet.sleep(back_off(failures))
            else:
                failures = 0
                self.spawn_thread(target=self._serve, args=(sock,), name="grpc connection")

    def _serve(self, sock: Any) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.ssl:
                with eventlet.Timeout(HANDSHAKE_SECONDS, TimeoutError("no handshake")):
                    context = self.ssl.server_context()
                    sock = context.wrap_socket(sock=sock, server_side=True, suppress_ragged_eofs=True)
            sock.settimeout(SEND_SECONDS)
        except OSError as error:
            log.info("a gRPC client went away at once: %s", error)
            sock.close()
            return
        connection = Connection(sock, self.handle_request)
        self._connections.add(connection)
        try:
            connection.run_forever()
        finally:
            self._connections.discard(connection)

    def leave(self) -> None:
        """Take no more connections, and no more calls on those that there are."""
        self.is_accepting = False
        self.listening_socket.close()
        for connection in list(self._connections):
            connection.say_goodbye()

    def stop(self) -> None:
        if self.is_accepting:
            self.leave()
        stopping = [eventlet.spawn(connection.stop) for connection in list(self._connections)]
        for one in stopping:
            one.wait()
