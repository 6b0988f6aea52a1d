"""The connection of a client: its calls over h2, and the frames to send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import eventlet
from grpc import StatusCode
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError, StreamIDTooLowError
from nameko_grpc.compression import SUPPORTED_ENCODINGS
from nameko_grpc.connection import ServerConnectionManager
from nameko_grpc.errors import GrpcError

from nameko_mesh.grpc.http2 import limits
from nameko_mesh.grpc.http2.keepalive import Keepalive
from nameko_mesh.grpc.http2.request_stream import RequestStream
from nameko_mesh.grpc.http2.response_stream import ResponseStream
from nameko_mesh.grpc.http2.sender import Sender

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_WINDOW_BYTES = 65535
HEADERS = (
    (":status", "200"),
    ("content-type", "application/grpc+proto"),
    ("grpc-accept-encoding", ",".join(SUPPORTED_ENCODINGS)),
)
TRAILERS = (("grpc-status", "0"),)
_STREAM_IS_GONE = (StreamClosedError, StreamIDTooLowError)
"""Raised by h2 for a stream that the client has reset, perhaps in the same packet as the request."""


class Connection(ServerConnectionManager):
    """Reads in one green thread, and sends in a second green thread while there is data.

    Both wait for the socket only, never in the middle of an operation of h2.
    """

    def __init__(
        self, sock: Any, handle_request: Callable[[Any, Any], None], shared: limits.SharedLimits
    ) -> None:
        super().__init__(sock, handle_request)
        self.run: bool
        self.conn = H2Connection(config=H2Configuration(client_side=False))
        self.conn.local_settings = limits.ServerSettings()
        self.conn.decoder.max_header_list_size = limits.MAX_HEADER_BYTES
        self._sender = Sender(sock, self._data_to_send, self._on_all_sent)
        self._shared = shared
        self._nuisances = limits.NuisanceLimit()
        self._calls: dict[int, ResponseStream] = {}
        """The calls whose work has not ended or whose response is not sent completely."""
        self._ready: set[int] = set()
        """The streams that may have something to send."""
        self._keepalive = Keepalive()
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.RequestReceived: self.request_received,
            events.DataReceived: self.data_received,
            events.StreamEnded: self.stream_ended,
            events.StreamReset: self.stream_reset,
            events.WindowUpdated: self.window_updated,
            events.RemoteSettingsChanged: self.settings_changed,
            events.PingReceived: self._count_nuisance,
            events.ConnectionTerminated: self.connection_terminated,
        }

    def run_forever(self) -> None:
        """Read and handle frames until the connection ends."""
        try:
            self.conn.initiate_connection()
            # With this window, calls that are not read, each with a full window, do not block the others.
            self.conn.increment_flow_control_window(limits.MAX_STREAMS * _WINDOW_BYTES)
            self._sender.send_soon()
            while self.run and (data := self._read()):
                self._handle(data)
        except Exception as error:  # an error of the client must not end the process
            log.info("a gRPC client is disconnected: %r", error)
        finally:
            self.run = False
            for stream_id in list(self.send_streams):
                self._forget(stream_id)
            self._sender.end()
            self.sock.close()
            self.stopped.set()

    def _handle(self, data: bytes) -> None:
        for event in self.conn.receive_data(data):
            if (handle := self._handlers.get(type(event))) is not None:
                handle(event)
        self._sender.send_if_any()
        self._sender.wait_for_client()
        if len(data) == _READ_BYTES:
            eventlet.sleep(0)  # a client that always has data must not starve the others

    def _read(self) -> bytes:
        while True:
            with suppress(TimeoutError):  # `check` decides when to disconnect
                data = bytes(self.sock.recv(_READ_BYTES))
                self._keepalive.on_received()
                return data

    def send_goaway(self) -> None:
        """Ask the client to begin no more calls on this connection. The calls in flight are answered."""
        if self.alive:
            self.conn.close_connection()
            self.terminating = True
            self._sender.send_soon()

    def hang_up(self) -> None:
        self.run = False
        self._sender.hang_up()

    def check(self, now: float) -> None:
        """Ping or disconnect a client that is silent, idle or does not read. Called about once a second."""
        if self._keepalive.should_hang_up(now):
            self.hang_up()
            return
        for stream_id, response in list(self.send_streams.items()):
            if not response.buffer.empty() and now - response.last_read_at > limits.SEND_SECONDS:
                self._reset(stream_id, ErrorCodes.CANCEL)
        if self._calls:
            self._keepalive.on_busy()
        if self._keepalive.should_ping(now):
            self.conn.ping(b"are you?")
        elif self._keepalive.is_idle(now):
            self.send_goaway()
        self._sender.send_soon()

    # Sending

    def wake(self, stream_id: int, *, immediately: bool = False) -> None:
        """Send the data of the stream. `immediately` has an effect if no other call can add to the packet."""
        self._ready.add(stream_id)
        if immediately and len(self._calls) == 1:
            self._sender.send_now()
        else:
            self._sender.send_soon()

    def _data_to_send(self) -> bytes:
        while self._ready:
            stream_id = self._ready.pop()
            try:
                self._send_stream(stream_id)
            except Exception as error:
                if not isinstance(error, _STREAM_IS_GONE):
                    log.exception("sending a gRPC response failed")
                self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        return bytes(self.conn.data_to_send())

    def _on_all_sent(self) -> None:
        if self.terminating and not self.send_streams:
            self._keepalive.on_finished()
            self._sender.close()

    def _send_stream(self, stream_id: int) -> None:
        response = self.send_streams.get(stream_id)
        if response is None:
            return
        if response.must_send_headers:
            self.conn.send_headers(stream_id, response.headers.for_wire)
            response.headers_sent = True
        if not response.headers_sent:
            return
        window = self.conn.local_flow_control_window(stream_id)
        for chunk in response.read(window, self.conn.max_outbound_frame_size):
            self.conn.send_data(stream_id, chunk)
        if response.exhausted:
            self.conn.send_headers(stream_id, response.trailers.for_wire, end_stream=True)
            self._end_call(stream_id)

    def _end_call(self, stream_id: int) -> None:
        if self.receive_streams[stream_id].ended:
            self._forget(stream_id)
        else:
            self._reset(stream_id, ErrorCodes.NO_ERROR)  # the method does not read the rest of the request

    # Receiving

    def request_received(self, event: Any) -> None:
        stream_id = event.stream_id
        if self.terminating or len(self._calls) >= limits.MAX_STREAMS or not self._shared.calls.take(1):
            self._count_nuisance(event)
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)  # the client may repeat the call elsewhere
            return
        acknowledge = partial(self._acknowledge, stream_id)
        request = RequestStream(stream_id, acknowledge, self._shared.request_bytes)
        response = ResponseStream(stream_id, self.wake, self._settle)
        self.receive_streams[stream_id] = request
        self.send_streams[stream_id] = self._calls[stream_id] = response
        response.headers.set(*HEADERS)
        response.trailers.set(*TRAILERS)
        try:
            self._begin(request, response, event.headers)
        except GrpcError as error:
            response.close(error)
            response.work_ended()

    def _begin(self, request: RequestStream, response: ResponseStream, headers: Any) -> None:
        try:
            request.headers.set(*headers, from_wire=True)
        except ValueError:
            raise GrpcError(StatusCode.INVALID_ARGUMENT, "the metadata can't be decoded") from None
        if (status := _http_error(request.headers)) is not None:
            with suppress(*_STREAM_IS_GONE):
                self.conn.send_headers(request.stream_id, [(":status", status)], end_stream=True)
            self._reset(request.stream_id, ErrorCodes.NO_ERROR)
            response.work_ended()
            return
        # The response is compressed if the request is, as with grpcio's servers.
        encoding = request.headers.get("grpc-encoding", "identity")
        response.headers.set(("grpc-encoding", encoding if encoding in SUPPORTED_ENCODINGS else "identity"))
        self.handle_request(request, response)

    def data_received(self, event: Any) -> None:
        if not event.data:
            self._count_nuisance(event)
        request = self.receive_streams.get(event.stream_id)
        if request is None:  # the call has ended (_end_call)
            self._acknowledge(event.stream_id, event.flow_controlled_length)
            return
        try:
            request.receive(event.data, event.flow_controlled_length)
        except GrpcError as error:
            request.discard()
            self.send_streams[event.stream_id].close(error)

    def stream_ended(self, event: Any) -> None:
        if (request := self.receive_streams.get(event.stream_id)) is not None:
            request.end()

    def stream_reset(self, event: Any) -> None:
        self._count_nuisance(event)
        self._forget(event.stream_id)

    def window_updated(self, event: Any) -> None:
        self._ready.update([event.stream_id] if event.stream_id else self.send_streams)

    def settings_changed(self, event: Any) -> None:
        if self._keepalive.has_settings:
            self._count_nuisance(event)
        self._keepalive.has_settings = True
        self._ready.update(self.send_streams)  # the window of each stream may have grown

    def _count_nuisance(self, event: Any) -> None:
        """Count a frame without a purpose. Raises ConnectionError if the client has exceeded the limit."""
        if self._nuisances.is_exceeded_by_one_more():
            self.conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise ConnectionError(f"too many frames without a purpose: {type(event).__name__}")

    def _acknowledge(self, stream_id: int, size: int) -> None:
        """Let the client send more. h2 collects the sizes, and sends a frame now and then."""
        if self.run:
            self.conn.acknowledge_received_data(size, stream_id)
            self._sender.add(self.conn.data_to_send())

    # Ending calls

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(*_STREAM_IS_GONE):
            self.conn.reset_stream(stream_id, code)
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        request = self.receive_streams.pop(stream_id, None)
        response = self.send_streams.pop(stream_id, None)
        if request is not None and response is not None:
            response.discard()
            request.discard()
            self._settle(stream_id)

    def _settle(self, stream_id: int) -> None:
        """Stop counting a call whose work has ended and whose response is sent."""
        if stream_id not in self.send_streams and not self._calls[stream_id].is_working:
            del self._calls[stream_id]
            self._shared.calls.give_back(1)


def _http_error(headers: Any) -> str | None:
    """Return the HTTP status for a request that is not gRPC."""
    if headers.get(":method") != "POST":
        return "405"
    return None if headers.get("content-type", "").startswith("application/grpc") else "415"
