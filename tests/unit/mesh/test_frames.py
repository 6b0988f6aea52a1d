"""frames against py-amqp: both encode and decode alike."""

from __future__ import annotations

import struct
from typing import Any

import amqp as py_amqp
import pytest
from amqp import serialization

from nameko_mesh.amqp import frames

HEADERS: dict[str, Any] = {
    "nameko.call_id_stack": ["gateway.1", "orders.2"],
    "nameko.deadline": 1763900000.25,
    "lives": -3,
    "far": 2**40,
    "näme": "größer",
    "nothing": None,
    "yes": True,
    "nested": {"list": [1, "two", [3.0]], "empty": {}},
}
COMMON = {name: HEADERS[name] for name in ("nameko.call_id_stack", "nameko.deadline", "lives", "näme")}


def properties_of(**properties: Any) -> bytes:
    return py_amqp.Message(**properties)._serialize_properties()  # type: ignore[no-any-return]


def test_py_amqp_decodes_an_encoded_table() -> None:
    (read,), end = serialization.loads("F", frames.table(HEADERS), 0)
    assert read == HEADERS
    assert end == len(frames.table(HEADERS))


@pytest.mark.parametrize("headers", [{"when": object()}, {"bytes": b"x"}])
def test_unsupported_type_in_a_table_raises_type_error(headers: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="header value may not be"):
        frames.table(headers)


def test_integer_beyond_64_bits_raises_value_error() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        frames.value(2**63)


def test_common_properties_decode_as_in_py_amqp() -> None:
    written = properties_of(
        content_type="application/json",
        content_encoding="utf-8",
        application_headers=COMMON,
        delivery_mode=2,
        correlation_id="c-1",
        reply_to="reply-é",
        expiration="1500",
        message_id="m-1",
    )
    assert frames.read_properties(b"before" + written, 6) == serialization.decode_properties_basic(
        b"before" + written, 6
    )
    assert frames.read_properties(properties_of(), 0) == ({}, 2)


@pytest.mark.parametrize(
    "properties", [{"priority": 3}, {"app_id": "x"}, {"timestamp": 1}, {"application_headers": {"a": True}}]
)
def test_rare_property_raises_unsupported_property(properties: dict[str, Any]) -> None:
    with pytest.raises(frames.UnsupportedProperty):
        frames.read_properties(properties_of(**properties), 0)


@pytest.mark.parametrize("cut", range(2, 40))
def test_truncated_properties_raise_or_decode_to_a_prefix(cut: int) -> None:
    whole = properties_of(content_type="application/json", application_headers={"a": ["b", "c"]})
    try:
        read, _ = frames.read_properties(whole[:cut], 0)
    except (IndexError, struct.error, UnicodeDecodeError, frames.UnsupportedProperty):
        return
    assert read.get("content_type", "") in "application/json"


def test_delivery_decodes_to_its_five_fields() -> None:
    arguments = serialization.dumps("sLbss", ("tag", 2**40, True, "nameko-rpc", "orders.place"))
    assert frames.read_delivery(b"\0\x3c\0\x3c" + arguments) == (
        "tag",
        2**40,
        True,
        "nameko-rpc",
        "orders.place",
    )


@pytest.mark.parametrize("key", [b"orders.\xff", b"orders.\xed\xa0\x80"])
def test_invalid_utf8_in_a_routing_key_is_replaced(key: bytes) -> None:
    delivery = (
        b"\0\x3c\0\x3c" + serialization.dumps("sLbs", ("tag", 1, False, "there")) + bytes([len(key)]) + key
    )
    assert frames.read_delivery(delivery)[4].startswith("orders.\ufffd")


def test_large_body_is_split_into_frames_of_the_negotiated_size() -> None:
    data = frames.message(3, 4096, b"method", frames.TYPE, frames.short("x"), b"b" * 9000)
    sizes = []
    at = len(b"method")
    while at < len(data):
        _, channel, size = struct.unpack_from("!BHI", data, at)
        assert channel == 3
        assert data[at + 7 + size] == frames.END
        sizes.append(size)
        at += 8 + size
    assert sizes == [16, 4088, 4088, 9000 - 2 * 4088]


def test_properties_larger_than_a_frame_raise_value_error() -> None:
    with pytest.raises(ValueError, match="do not fit in one frame"):
        frames.message(1, 4096, b"", frames.HEADERS, b"x" * 4090, b"")


def test_short_string_takes_at_most_255_bytes() -> None:
    assert frames.short("é" * 127) == b"\xfe" + "é".encode() * 127
    with pytest.raises(ValueError, match="has 256"):
        frames.short("é" * 128)
