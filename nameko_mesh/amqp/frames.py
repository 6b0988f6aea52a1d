"""AMQP 0-9-1 in bytes, as far as every call and event needs it: no socket, no clock.

Messages and acks to send, deliveries and their properties to read. py-amqp and pamqp derive the same
from a general description, at several times the price; the rare rest is left to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
BASIC = 60
"""The class of all methods that have to do with messages."""

TYPE, ENCODING, HEADERS, DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID = 0x0400, 0x0200, 0x0100, 0x0080
"""The flags of the properties, which follow each other in this order."""
_READ_HERE = TYPE | ENCODING | HEADERS | DELIVERY_MODE | CORRELATION_ID | REPLY_TO | EXPIRATION | MESSAGE_ID

_PUBLISH = (BASIC << 16) | 40
_ACK = (BASIC << 16) | 80

_head = Struct("!BHI")
_content = Struct("!HHQH")  # class, weight, body size, property flags
_ack = Struct("!BHIIQBB")
_tag = Struct("!QB")
_short = Struct("!H")
_long = Struct("!I")
_double = Struct("!d")
_int = Struct("!i")
_signed = Struct("!q")


class Unusual(Exception):
    """Something that is not read here."""


@lru_cache(maxsize=4096)
def publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """What goes before a message. Raises ValueError for a name of more than 255 bytes."""
    payload = b"".join(
        (_long.pack(_PUBLISH), b"\0\0", short(exchange), short(routing_key), bytes((mandatory,)))
    )
    return _head.pack(METHOD, channel, len(payload)) + payload + b"\xce"


def message(channel: int, frame_max: int, method: bytes, flags: int, properties: bytes, body: bytes) -> bytes:
    """A method and the message that belongs to it, ready for the socket.

    Raises ValueError for properties that fill a whole frame.
    """
    room = frame_max - 8
    if len(properties) + _content.size > room:
        raise ValueError("the headers of a message do not fit in one frame")
    parts = [
        method,
        _head.pack(HEADER, channel, len(properties) + _content.size),
        _content.pack(BASIC, 0, len(body), flags),
        properties,
        b"\xce",
    ]
    for at in range(0, len(body), room):
        chunk = body[at : at + room]
        parts += (_head.pack(BODY, channel, len(chunk)), chunk, b"\xce")
    return b"".join(parts)


def ack(channel: int, delivery_tag: int) -> bytes:
    """The acknowledgement of one message."""
    return _ack.pack(METHOD, channel, 13, _ACK, delivery_tag, 0, END)


def short(text: str) -> bytes:
    """Raises ValueError for more than 255 bytes."""
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"a name of {len(encoded)} bytes where AMQP takes 255: {text[:40]!r}")
    return bytes((len(encoded),)) + encoded


def table(fields: Mapping[str, Any]) -> bytes:
    """Raises what `value` raises."""
    content = b"".join([short(str(key)) + value(item) for key, item in fields.items()])
    return _long.pack(len(content)) + content


def value(one: Any) -> bytes:
    """One value of a table, in the few types that every client reads alike.

    pamqp would pick the shortest integer, `s` for 16 bits, which releases of py-amqp have read as a
    string (celery/kombu#2354): 32 bits, then, and 64 for what does not fit, which some have read as unsigned.
    Raises TypeError for a value without such a type, ValueError for an integer beyond 64 bits.
    """
    if isinstance(one, str):
        encoded = one.encode()
        return b"S" + _long.pack(len(encoded)) + encoded
    if one is None:
        return b"V"
    if isinstance(one, bool):
        return b"t\1" if one else b"t\0"
    if isinstance(one, int):
        if not -(2**63) <= one < 2**63:
            raise ValueError(f"{one} in the headers of a message has more than 64 bits")
        return b"I" + _int.pack(one) if -(2**31) <= one < 2**31 else b"l" + _signed.pack(one)
    if isinstance(one, float):
        return b"d" + _double.pack(one)
    if isinstance(one, Mapping):
        return b"F" + table(one)
    if isinstance(one, list | tuple):
        array = b"".join(map(value, one))
        return b"A" + _long.pack(len(array)) + array
    raise TypeError(f"a {type(one).__name__} in the headers of a message is nothing that AMQP can carry")


def read_delivery(payload: bytes) -> tuple[str, int, bool, str, str]:
    """Consumer tag, delivery tag, whether it is redelivered, exchange and routing key of Basic.Deliver.

    A sender chooses the routing key, which need not be text: that must not end the loop that reads.
    Raises IndexError or struct.error for what is none.
    """
    consumer_tag, at = _read_short(payload, 4)
    delivery_tag, redelivered = _tag.unpack_from(payload, at)
    exchange, at = _read_short(payload, at + _tag.size, "replace")
    routing_key, _ = _read_short(payload, at, "replace")
    return consumer_tag, delivery_tag, redelivered & 1 == 1, exchange, routing_key


def read_properties(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Under py-amqp's names, and where they end. Raises Unusual for those that hardly anybody sends, and
    IndexError, struct.error, UnicodeDecodeError or RecursionError for what is none."""
    (flags,) = _short.unpack_from(data, at)
    if flags & ~_READ_HERE:
        raise Unusual
    at += 2
    found: dict[str, Any] = {}
    if flags & TYPE:
        found["content_type"], at = _read_short(data, at)
    if flags & ENCODING:
        found["content_encoding"], at = _read_short(data, at)
    if flags & HEADERS:
        found["application_headers"], at = _read_table(data, at)
    if flags & DELIVERY_MODE:
        found["delivery_mode"] = data[at]
        at += 1
    if flags & CORRELATION_ID:
        found["correlation_id"], at = _read_short(data, at)
    if flags & REPLY_TO:
        found["reply_to"], at = _read_short(data, at)
    if flags & EXPIRATION:
        found["expiration"], at = _read_short(data, at)
    if flags & MESSAGE_ID:
        found["message_id"], at = _read_short(data, at)
    return found, at


def _read_short(data: bytes, at: int, errors: str = "strict") -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", errors), end


def _read_table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    end = at + 4 + _long.unpack_from(data, at)[0]
    at += 4
    found: dict[str, Any] = {}
    while at < end:
        key, at = _read_short(data, at)
        found[key], at = _read_value(data, at)
    return found, at


def _read_value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    at += 1
    if kind == b"S":
        end = at + 4 + _long.unpack_from(data, at)[0]
        return data[at + 4 : end].decode(), end
    if kind == b"d":
        return _double.unpack_from(data, at)[0], at + 8
    if kind == b"I":  # what py-amqp writes for most integers
        return _int.unpack_from(data, at)[0], at + 4
    if kind == b"l":
        return _signed.unpack_from(data, at)[0], at + 8
    if kind == b"A":
        end = at + 4 + _long.unpack_from(data, at)[0]
        at += 4
        array = []
        while at < end:
            item, at = _read_value(data, at)
            array.append(item)
        return array, at
    raise Unusual
