"""One client's connection: its calls, and what it is told about them."""

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

from nameko_mesh.grpc.http2 import limits, unary_response
from nameko_mesh.grpc.http2.keepalive import Keepalive
from nameko_mesh.grpc.http2.sender import Sender
from nameko_mesh.grpc.http2.streams import RequestStream, ResponseStream

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_WINDOW_BYTES = 65535
_GONE = (StreamClosedError, StreamIDTooLowError)
"""What h2 says of a stream that the client has reset, perhaps in what it sent with the request."""
_RESPONSE_HEADERS = (
    (":status", "200"),
    ("content-type", "application/grpc+proto"),
    ("grpc-accept-encoding", ",".join(SUPPORTED_ENCODINGS)),
)


class Connection(ServerConnectionManager):
    """One green thread reads; another sends, when there is something to be sent. Nothing but the socket
    makes either wait, so that no other green thread sees h2 in the middle of something."""

    def __init__(self, sock: Any, handle_request: Callable[[Any, Any], None], shared: limits.Shared) -> None:
        super().__init__(sock, handle_request)
        self.run: bool
        self.conn = H2Connection(config=H2Configuration(client_side=False))
        self.conn.local_settings = limits.ServerSettings()
        self.conn.decoder.max_header_list_size = limits.MAX_HEADER_BYTES
        self._sender = Sender(sock, self._to_send, self._all_sent)
        self._shared = shared
        self._patience = limits.Patience()
        self._calls: dict[int, ResponseStream] = {}
        """Those that are worked on, or not sent to the end."""
        self._ready: set[int] = set()
        self._keepalive = Keepalive()
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.RequestReceived: self.request_received,
            events.DataReceived: self.data_received,
            events.StreamEnded: self.stream_ended,
            events.StreamReset: self.stream_reset,
            events.WindowUpdated: self.window_updated,
            events.RemoteSettingsChanged: self.settings_changed,
            events.PingReceived: self._bear,
            events.ConnectionTerminated: self.connection_terminated,
        }

    def run_forever(self) -> None:
        try:
            self.conn.initiate_connection()
            # So much that calls that are not read, each with a window full, hold up no other.
            self.conn.increment_flow_control_window(limits.MAX_STREAMS * _WINDOW_BYTES)
            self._sender.send_soon()
            while self.run and (data := self._read()):
                for event in self.conn.receive_data(data):
                    if (handle := self._handlers.get(type(event))) is not None:
                        handle(event)
                self._sender.send_if_any()
                self._sender.wait_for_the_client()
                if len(data) == _READ_BYTES:
                    eventlet.sleep(0)  # who always has something to say must not keep the others waiting
        except Exception as error:  # of the client's making: it must not end the process
            log.info("a gRPC client is cut off: %r", error)
        finally:
            self.run = False
            for stream_id in list(self.send_streams):
                self._forget(stream_id)
            self._sender.end()
            self.sock.close()
            self.stopped.set()

    def _read(self) -> bytes:
        while True:
            with suppress(TimeoutError):  # `look_after` knows whom to hang up on
                data = bytes(self.sock.recv(_READ_BYTES))
                self._keepalive.heard()
                return data

    def say_goodbye(self) -> None:
        """Ask the client for no more calls; those that it has made are answered."""
        if self.alive:
            self.conn.close_connection()
            self.terminating = True
            self._sender.send_soon()

    def hang_up(self) -> None:
        self.run = False
        self._sender.hang_up()

    def look_after(self, now: float) -> None:
        """Called now and then: who does not greet, answer, read or call any more gives up its place."""
        if self._keepalive.is_lost(now):
            self.hang_up()
            return
        for stream_id, response in list(self.send_streams.items()):
            if not response.buffer.empty() and now - response.took_at > limits.SEND_SECONDS:
                self._reset(stream_id, ErrorCodes.CANCEL)
        if self._calls:
            self._keepalive.busy()
        if self._keepalive.must_ask(now):
            self.conn.ping(b"are you?")
        elif self._keepalive.is_idle(now):
            self.say_goodbye()
        self._sender.send_soon()

    def wake(self, stream_id: int, *, at_once: bool = False) -> None:
        """There is something to send, and perhaps no reason to wait for more that could leave with it."""
        self._ready.add(stream_id)
        if at_once and len(self._calls) == 1:
            self._sender.send_now()
        else:
            self._sender.send_soon()

    def _to_send(self) -> bytes:
        while self._ready:
            stream_id = self._ready.pop()
            try:
                self._send_stream(stream_id)
            except Exception as error:
                if not isinstance(error, _GONE):
                    log.exception("a response can't be sent")
                self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        return bytes(self.conn.data_to_send())

    def _all_sent(self) -> None:
        if self.terminating and not self.send_streams:
            self._keepalive.left()
            self._sender.close()

    def _send_stream(self, stream_id: int) -> None:
        response = self.send_streams.get(stream_id)
        if response is None or self._send_whole(stream_id, response):
            return
        if headers := response.headers_to_send():
            self.conn.send_headers(stream_id, headers)
        if not response.headers_sent:
            return
        window = self.conn.local_flow_control_window(stream_id)
        for chunk in response.read(window, self.conn.max_outbound_frame_size):
            self.conn.send_data(stream_id, chunk)
        if response.exhausted:
            self.conn.send_headers(stream_id, response.trailers.for_wire, end_stream=True)
            self._end_call(stream_id)

    def _send_whole(self, stream_id: int, response: ResponseStream) -> bool:
        """Whether it was there whole, and has left so."""
        if not response.is_whole(unary_response.room_for(self.conn, stream_id)):
            return False
        headers, trailers = response.headers.data, response.trailers.data
        if not unary_response.is_usual(headers) or not unary_response.is_usual(trailers):
            return False
        unary_response.send(self.conn, stream_id, headers, response.buffer.read(), trailers)
        self._end_call(stream_id)
        return True

    def _end_call(self, stream_id: int) -> None:
        if self.receive_streams[stream_id].ended:
            self._forget(stream_id)
        else:
            self._reset(stream_id, ErrorCodes.NO_ERROR)  # what it goes on sending is read by nobody

    def request_received(self, event: Any) -> None:
        stream_id = event.stream_id
        if self.terminating or len(self._calls) >= limits.MAX_STREAMS or not self._shared.calls.take(1):
            self._bear(event)
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)  # so that it is made elsewhere
            return
        acknowledge = partial(self._acknowledge, stream_id)
        request = RequestStream(stream_id, acknowledge, self._shared.request_bytes)
        response = ResponseStream(stream_id, self.wake, self._settle)
        self.receive_streams[stream_id] = request
        self.send_streams[stream_id] = self._calls[stream_id] = response
        response.headers.set(*_RESPONSE_HEADERS)
        response.trailers.set(("grpc-status", "0"))
        try:
            self._begin(request, response, event.headers)
        except GrpcError as error:
            response.close(error)
            response.done()

    def _begin(self, request: RequestStream, response: ResponseStream, headers: Any) -> None:
        try:
            request.headers.set(*headers, from_wire=True)
        except ValueError:
            raise GrpcError(StatusCode.INVALID_ARGUMENT, "the metadata can't be read") from None
        if (status := _http_status(request.headers)) is not None:
            with suppress(*_GONE):
                self.conn.send_headers(request.stream_id, [(":status", status)], end_stream=True)
            self._reset(request.stream_id, ErrorCodes.NO_ERROR)
            response.done()
            return
        # As grpcio's servers do: who packs gets it packed, and nobody else pays for it.
        used = request.headers.get("grpc-encoding", "identity")
        response.headers.set(("grpc-encoding", used if used in SUPPORTED_ENCODINGS else "identity"))
        self.handle_request(request, response)

    def data_received(self, event: Any) -> None:
        if not event.data:
            self._bear(event)
        request = self.receive_streams.get(event.stream_id)
        if request is None:  # its call has ended: see _end_call
            self._acknowledge(event.stream_id, event.flow_controlled_length)
            return
        try:
            request.receive(event.data, event.flow_controlled_length)
        except GrpcError as error:
            request.drop()
            self.send_streams[event.stream_id].close(error)

    def stream_ended(self, event: Any) -> None:
        if (request := self.receive_streams.get(event.stream_id)) is not None:
            request.end()

    def stream_reset(self, event: Any) -> None:
        self._bear(event)
        self._forget(event.stream_id)

    def window_updated(self, event: Any) -> None:
        self._ready.update([event.stream_id] if event.stream_id else self.send_streams)

    def settings_changed(self, event: Any) -> None:
        if self._keepalive.greeted:
            self._bear(event)
        self._keepalive.greeted = True
        self._ready.update(self.send_streams)  # the window of each may have grown

    def _bear(self, event: Any) -> None:
        """Raises ConnectionError when there was too much of it."""
        if self._patience.is_lost():
            self.conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise ConnectionError(f"too much for nothing: {type(event).__name__}")

    def _acknowledge(self, stream_id: int, size: int) -> None:
        if self.run:
            self.conn.acknowledge_received_data(size, stream_id)
            if self.conn._data_to_send:  # h2 tells the client now and then
                self._sender.send_soon()

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(*_GONE):
            self.conn.reset_stream(stream_id, code)
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        request = self.receive_streams.pop(stream_id, None)
        response = self.send_streams.pop(stream_id, None)
        if request is not None and response is not None:
            response.drop()
            request.drop()
            self._settle(stream_id)

    def _settle(self, stream_id: int) -> None:
        """A call counts until its work has ended and its response has left."""
        if stream_id not in self.send_streams and not self._calls[stream_id].working:
            del self._calls[stream_id]
            self._shared.calls.give_back(1)


def _http_status(headers: Any) -> str | None:
    """What a request is answered with that is none of gRPC."""
    if headers.get(":method") != "POST":
        return "405"
    return None if headers.get("content-type", "").startswith("application/grpc") else "415"
