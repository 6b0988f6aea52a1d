"""Nameko requests as bytes: what is the same for every call is encoded once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from mesh.aio.wire import BODY, HEADER, METHOD

MANDATORY = 1
TRANSIENT = b"\x01"
_PUBLISH = (60 << 16) | 40
_ACK = (60 << 16) | 80

_head = Struct("!BHI")
_content = Struct("!HHQH")
_ack = Struct("!BHIIQBB")
_long = Struct("!I")
_double = Struct("!d")
_signed = Struct("!q")

# content type, content encoding, headers, delivery mode, correlation id, reply to, expiration
_FLAGS = 0x8000 | 0x4000 | 0x2000 | 0x1000 | 0x0400 | 0x0200 | 0x0100
_JSON = b"\x10application/json\x05utf-8"
_DEADLINE = b"\x0fnameko.deadlined"
_STACK = b"\x14nameko.call_id_stackA"
_OURS = frozenset({"call_id_stack", "deadline"})


class RequestEncoder:
    """Encodes requests for one channel, one exchange and one reply queue."""

    def __init__(self, channel: int, frame_max: int, exchange: str, reply_to: str) -> None:
        self._channel = channel
        self._room = frame_max - 8
        self._reply_to = _shortstr(reply_to)
        exchange_name = _shortstr(exchange)

        def method(routing_key: str) -> bytes:
            payload = b"".join(
                (_long.pack(_PUBLISH), b"\0\0", exchange_name, _shortstr(routing_key), bytes((MANDATORY,)))
            )
            return _head.pack(METHOD, channel, len(payload)) + payload + b"\xce"

        self._method = lru_cache(maxsize=4096)(method)

    def encode(
        self,
        routing_key: str,
        body: bytes,
        correlation_id: str,
        call_id: str,
        deadline: float,
        expiration_ms: int,
        context: Mapping[str, Any] | None,
    ) -> bytes:
        """One request, ready for the socket. `deadline` is Unix seconds.

        Raises ValueError for a name of more than 255 bytes, and for headers that fill a whole frame.
        """
        stack_entry = call_id.encode()
        size = len(stack_entry)
        table = b"".join(
            (
                _STACK,
                _long.pack(size + 5),
                b"S",
                _long.pack(size),
                stack_entry,
                _DEADLINE,
                _double.pack(deadline),
            )
        )
        if context:
            table += _context_fields(context)
        properties = b"".join(
            (
                _JSON,
                _long.pack(len(table)),
                table,
                TRANSIENT,
                _shortstr(correlation_id),
                self._reply_to,
                _shortstr(str(expiration_ms)),
            )
        )
        if len(properties) + 14 > self._room:
            raise ValueError("the context of a call does not fit in one frame")
        channel, room = self._channel, self._room
        parts = [
            self._method(routing_key),
            _head.pack(HEADER, channel, len(properties) + 14),
            _content.pack(60, 0, len(body), _FLAGS),
            properties,
            b"\xce",
        ]
        for at in range(0, len(body), room):
            chunk = body[at : at + room]
            parts += (_head.pack(BODY, channel, len(chunk)), chunk, b"\xce")
        return b"".join(parts)


def encode_ack(channel: int, delivery_tag: int) -> bytes:
    """The acknowledgement of one message."""
    return _ack.pack(METHOD, channel, 13, _ACK, delivery_tag, 0, 0xCE)


def _context_fields(context: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    for key, value in context.items():
        if key in _OURS:  # a call_id_stack that is no list ends every instance of a stock service it reaches
            raise ValueError(f"{key!r} in the context of a call is the client's own")
        parts += (_shortstr(f"nameko.{key}"), _field(value))
    return b"".join(parts)


def _field(value: Any) -> bytes:
    """One value of an AMQP table, in the few types that every client reads alike.

    pamqp would pick the shortest integer, `s` for 16 bits, which releases of py-amqp have read as a
    string (celery/kombu#2354): 64 bits always, then.
    Raises TypeError for a value without such a type, ValueError for an integer beyond 64 bits.
    """
    if isinstance(value, str):
        encoded = value.encode()
        return b"S" + _long.pack(len(encoded)) + encoded
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\1" if value else b"t\0"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} in the context of a call has more than 64 bits")
        return b"l" + _signed.pack(value)
    if isinstance(value, float):
        return b"d" + _double.pack(value)
    if isinstance(value, Mapping):
        table = b"".join(_shortstr(str(key)) + _field(item) for key, item in value.items())
        return b"F" + _long.pack(len(table)) + table
    if isinstance(value, list | tuple):
        array = b"".join(map(_field, value))
        return b"A" + _long.pack(len(array)) + array
    raise TypeError(f"a {type(value).__name__} in the context of a call is nothing that AMQP can carry")


def _shortstr(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"a name of {len(encoded)} bytes where AMQP takes 255: {text[:40]!r}")
    return bytes((len(encoded),)) + encoded
