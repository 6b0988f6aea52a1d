"""AMQP 0-9-1 frames as bytes, without I/O: the few kinds that every call and event needs.

This module encodes messages and acks, and decodes deliveries and their properties. py-amqp and pamqp
interpret a general description of the protocol, which takes several times as long. They handle the rare
frames.

Gain: sending a message takes 6 µs in place of 12; reading its properties takes 2.7 µs in place of 4.0
(`python -m bench.tricks.amqp`). Unit tests compare the bytes with py-amqp. Delete this module when py-amqp is
as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
BASIC = 60
"""The class id of the methods that publish, deliver and acknowledge messages."""

TYPE, ENCODING, HEADERS, DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID = 0x0400, 0x0200, 0x0100, 0x0080
"""Property flags, in the order of the properties on the wire."""
_SUPPORTED = TYPE | ENCODING | HEADERS | DELIVERY_MODE | CORRELATION_ID | REPLY_TO | EXPIRATION | MESSAGE_ID

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


class UnsupportedProperty(Exception):
    """A property or a type that this module leaves to py-amqp or pamqp."""


@lru_cache(maxsize=4096)
def publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the Basic.Publish frame. Raises ValueError for a name of more than 255 bytes."""
    payload = b"".join(
        (_long.pack(_PUBLISH), b"\0\0", short(exchange), short(routing_key), bytes((mandatory,)))
    )
    return _head.pack(METHOD, channel, len(payload)) + payload + b"\xce"


def message(channel: int, frame_max: int, method: bytes, flags: int, properties: bytes, body: bytes) -> bytes:
    """Return the frames of a method with content: the method, the header and the body.

    Raises ValueError when the properties do not fit in one frame.
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
    """Return the Basic.Ack frame for one message."""
    return _ack.pack(METHOD, channel, 13, _ACK, delivery_tag, 0, END)


def short(text: str) -> bytes:
    """Encode a short string. Raises ValueError for more than 255 bytes."""
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"AMQP allows 255 bytes, this name has {len(encoded)}: {text[:40]!r}")
    return bytes((len(encoded),)) + encoded


def table(fields: Mapping[str, Any]) -> bytes:
    """Encode a table. Raises TypeError and ValueError, as `value` does."""
    content = b"".join([short(str(key)) + value(item) for key, item in fields.items()])
    return _long.pack(len(content)) + content


def value(item: Any) -> bytes:
    """Encode one value of a table, with the few types that all clients decode alike.

    Integers take 32 bits, or 64 when they need them. pamqp would use `s` for 16 bits, which some releases of
    py-amqp decode as a string (celery/kombu#2354).
    Raises TypeError for an unsupported type, and ValueError for an integer beyond 64 bits.
    """
    if isinstance(item, str):
        encoded = item.encode()
        return b"S" + _long.pack(len(encoded)) + encoded
    if item is None:
        return b"V"
    if isinstance(item, bool):
        return b"t\1" if item else b"t\0"
    if isinstance(item, int):
        if not -(2**63) <= item < 2**63:
            raise ValueError(f"the header value {item} has more than 64 bits")
        return b"I" + _int.pack(item) if -(2**31) <= item < 2**31 else b"l" + _signed.pack(item)
    if isinstance(item, float):
        return b"d" + _double.pack(item)
    if isinstance(item, Mapping):
        return b"F" + table(item)
    if isinstance(item, list | tuple):
        array = b"".join(map(value, item))
        return b"A" + _long.pack(len(array)) + array
    raise TypeError(f"a header value may not be a {type(item).__name__}")


def read_delivery(payload: bytes) -> tuple[str, int, bool, str, str]:
    """Decode Basic.Deliver: consumer tag, delivery tag, redelivered, exchange and routing key.

    Invalid UTF-8 in the routing key is replaced, because a sender chooses the key, and an error would end the
    reading loop. Raises IndexError or struct.error for malformed data.
    """
    consumer_tag, at = _read_short(payload, 4)
    delivery_tag, redelivered = _tag.unpack_from(payload, at)
    exchange, at = _read_short(payload, at + _tag.size, "replace")
    routing_key, _ = _read_short(payload, at, "replace")
    return consumer_tag, delivery_tag, redelivered & 1 == 1, exchange, routing_key


def read_properties(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Decode the properties at offset `at`, under py-amqp's names; return them and the offset behind them.

    Raises UnsupportedProperty for rare properties and types. Raises IndexError, struct.error,
    UnicodeDecodeError or RecursionError for malformed data.
    """
    (flags,) = _short.unpack_from(data, at)
    if flags & ~_SUPPORTED:
        raise UnsupportedProperty
    at += 2
    properties: dict[str, Any] = {}
    if flags & TYPE:
        properties["content_type"], at = _read_short(data, at)
    if flags & ENCODING:
        properties["content_encoding"], at = _read_short(data, at)
    if flags & HEADERS:
        properties["application_headers"], at = _read_table(data, at)
    if flags & DELIVERY_MODE:
        properties["delivery_mode"] = data[at]
        at += 1
    if flags & CORRELATION_ID:
        properties["correlation_id"], at = _read_short(data, at)
    if flags & REPLY_TO:
        properties["reply_to"], at = _read_short(data, at)
    if flags & EXPIRATION:
        properties["expiration"], at = _read_short(data, at)
    if flags & MESSAGE_ID:
        properties["message_id"], at = _read_short(data, at)
    return properties, at


def _read_short(data: bytes, at: int, errors: str = "strict") -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", errors), end


def _read_table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    end = at + 4 + _long.unpack_from(data, at)[0]
    at += 4
    fields: dict[str, Any] = {}
    while at < end:
        key, at = _read_short(data, at)
        fields[key], at = _read_value(data, at)
    return fields, at


def _read_value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    at += 1
    if kind == b"S":
        end = at + 4 + _long.unpack_from(data, at)[0]
        return data[at + 4 : end].decode(), end
    if kind == b"d":
        return _double.unpack_from(data, at)[0], at + 8
    if kind == b"I":  # py-amqp's usual type for integers
        return _int.unpack_from(data, at)[0], at + 4
    if kind == b"l":
        return _signed.unpack_from(data, at)[0], at + 8
    if kind == b"A":
        return _read_array(data, at)
    raise UnsupportedProperty


def _read_array(data: bytes, at: int) -> tuple[list[Any], int]:
    end = at + 4 + _long.unpack_from(data, at)[0]
    at += 4
    array = []
    while at < end:
        item, at = _read_value(data, at)
        array.append(item)
    return array, at
