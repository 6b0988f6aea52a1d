"""A misbehaving HTTP/2 client: h2 without its checks, over its own socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import Frame

SECONDS = 20
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "shop",
    ":path": "/echo.Echo/Once",
    "te": "trailers",
    "content-type": "application/grpc",
}


def enveloped(data: bytes, packed: int = 0) -> bytes:
    return struct.pack(">BI", packed, len(data)) + data


class Stranger:
    def __init__(self, port: int, greets: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        lenient = H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False
        )
        self.h2 = H2Connection(lenient)
        self.seen: list[Event] = []
        self.hung_up = False
        if greets:
            self.h2.initiate_connection()
            self.flush()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def send_frame(self, frame: Frame) -> None:
        self.sock.sendall(frame.serialize())

    def ask(self, body: bytes | None = None, end: bool = True, **headers: Any) -> int:
        """Begin a call and return its stream id. `path` stands for `:path`, and so on. None omits one."""
        stream_id = self.h2.get_next_available_stream_id()
        pairs = {f":{name}" if f":{name}" in HEADERS else name: value for name, value in headers.items()}
        wanted = [pair for pair in (HEADERS | pairs).items() if pair[1] is not None]
        self.h2.send_headers(stream_id, wanted)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=end)
        self.flush()
        return stream_id

    def send(self, stream_id: int, body: bytes) -> None:
        """Send all data, or until the server ends the stream. Wait for the server's window if necessary."""
        while body and not self.ended(stream_id) and not self.hung_up:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if room:
                self.h2.send_data(stream_id, body[:room])
                body = body[room:]
                self.flush()
            else:
                self.listen()

    def listen(self) -> bool:
        """Process the server's next data. Return False if the server has closed the connection."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:  # a silent server raises TimeoutError instead
            data = b""
        if not data:
            self.hung_up = True
            return False
        for event in self.h2.receive_data(data):
            self.seen.append(event)
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        with suppress(OSError):  # the server's data can still be read
            self.flush()
        return True

    def of(self, stream_id: int) -> Iterator[Any]:
        return (event for event in self.seen if getattr(event, "stream_id", None) == stream_id)

    def ended(self, stream_id: int) -> bool:
        return any(isinstance(event, StreamReset | TrailersReceived) for event in self.of(stream_id))

    def answer(self, stream_id: int) -> str:
        """Return the end of a call: "grpc 0", "http 415", "reset 7", or "gone" with the connection."""
        while not (said := self._said(stream_id)) and self.listen():
            """Read until the call has ended."""
        return said or self._said(stream_id) or "gone"

    def call(self, body: bytes = enveloped(b"\x0a\x02hi"), **headers: Any) -> str:
        return self.answer(self.ask(body, **headers))

    def goodbye(self) -> int | None:
        """Return the error code of the server's GOAWAY, after the server has closed."""
        while self.listen():
            """Read until the server closes the connection."""
        codes = [int(event.error_code or 0) for event in self.seen if isinstance(event, ConnectionTerminated)]
        return codes[-1] if codes else None

    def _said(self, stream_id: int) -> str:
        for event in self.of(stream_id):
            headers = {name.decode(): value.decode() for name, value in getattr(event, "headers", None) or ()}
            if "grpc-status" in headers:
                return f"grpc {headers['grpc-status']}"
            if isinstance(event, ResponseReceived) and headers[":status"] != "200":
                return f"http {headers[':status']}"
            if isinstance(event, StreamReset):
                return f"reset {int(event.error_code)}"
        return ""
