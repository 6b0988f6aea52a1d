"""Just enough of AMQP 0-9-1 to know that a broker really serves: log in, open a vhost, leave."""

from __future__ import annotations

import socket
import struct
import time

SECONDS = 0.9
FRAME_END = b"\xce"
METHOD = 1
# Methods of the class `connection` (10), section 1.4 of the specification.
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK, CLOSE, CLOSE_OK = 10, 11, 30, 31, 40, 41, 50, 51


def accepts(port: int, user: str, password: str, vhost: str = "/") -> bool:
    """Whether the broker on that port of the loopback lets the user into the vhost, within 0.9 s."""
    deadline = time.monotonic() + SECONDS
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            return _converse(_Dialogue(connection, deadline), user, password, vhost)
    except (OSError, struct.error):
        return False


def _converse(dialogue: _Dialogue, user: str, password: str, vhost: str) -> bool:
    dialogue.send(b"AMQP\x00\x00\x09\x01")
    if dialogue.receive()[0] != START:
        return False
    plain = f"\0{user}\0{password}".encode()
    no_properties = struct.pack("!I", 0)
    dialogue.call(
        START_OK, no_properties + _short("PLAIN") + struct.pack("!I", len(plain)) + plain + _short("en_US")
    )
    method, limits = dialogue.receive()
    if method != TUNE:
        return False
    dialogue.call(TUNE_OK, limits)
    dialogue.call(OPEN, _short(vhost) + _short("") + b"\x00")
    if dialogue.receive()[0] != OPEN_OK:
        return False
    dialogue.call(CLOSE, struct.pack("!H", 200) + _short("") + struct.pack("!HH", 0, 0))
    return dialogue.receive()[0] == CLOSE_OK


class _Dialogue:
    """One connection, with a deadline for all of it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def send(self, data: bytes) -> None:
        self._bound()
        self._connection.sendall(data)

    def call(self, method: int, arguments: bytes) -> None:
        payload = struct.pack("!HH", 10, method) + arguments
        self.send(struct.pack("!BHI", METHOD, 0, len(payload)) + payload + FRAME_END)

    def receive(self) -> tuple[int, bytes]:
        """The next method's number and arguments."""
        _, _, size = struct.unpack("!BHI", self._exactly(7))
        payload = self._exactly(size + len(FRAME_END))[: -len(FRAME_END)]
        return struct.unpack("!HH", payload[:4])[1], payload[4:]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._bound()
            more = self._connection.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker closed the connection")
            data += more
        return data

    def _bound(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining)


def _short(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!B", len(encoded)) + encoded
