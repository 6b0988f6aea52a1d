"""What is written by hand must be what py-amqp would write, and be read as py-amqp would read it."""

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


def test_a_table_is_read_by_py_amqp_as_it_was_meant() -> None:
    (read,), end = serialization.loads("F", frames.table(HEADERS), 0)
    assert read == HEADERS
    assert end == len(frames.table(HEADERS))


@pytest.mark.parametrize("headers", [{"when": object()}, {"bytes": b"x"}])
def test_what_a_table_cannot_carry_is_said(headers: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="nothing that AMQP can carry"):
        frames.table(headers)


def test_an_integer_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        frames.value(2**63)


def test_properties_are_read_as_py_amqp_reads_them() -> None:
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
def test_what_is_rare_is_left_to_py_amqp(properties: dict[str, Any]) -> None:
    with pytest.raises(frames.Unusual):
        frames.read_properties(properties_of(**properties), 0)


@pytest.mark.parametrize("cut", range(2, 40))
def test_properties_that_end_too_early_are_an_error_or_shorter(cut: int) -> None:
    """Never a loop, and never what was not sent."""
    whole = properties_of(content_type="application/json", application_headers={"a": ["b", "c"]})
    try:
        read, _ = frames.read_properties(whole[:cut], 0)
    except (IndexError, struct.error, UnicodeDecodeError, frames.Unusual):
        return
    assert read.get("content_type", "") in "application/json"


def test_a_delivery_is_read() -> None:
    arguments = serialization.dumps("sLbss", ("tag", 2**40, True, "nameko-rpc", "orders.place"))
    assert frames.read_delivery(b"\0\x3c\0\x3c" + arguments) == (
        "tag",
        2**40,
        True,
        "nameko-rpc",
        "orders.place",
    )


@pytest.mark.parametrize("key", [b"orders.\xff", b"orders.\xed\xa0\x80"])
def test_a_routing_key_that_is_no_text_is_read_all_the_same(key: bytes) -> None:
    delivery = (
        b"\0\x3c\0\x3c" + serialization.dumps("sLbs", ("tag", 1, False, "there")) + bytes([len(key)]) + key
    )
    assert frames.read_delivery(delivery)[4].startswith("orders.\ufffd")


def test_a_message_is_cut_into_frames_of_the_agreed_size() -> None:
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


def test_properties_that_fill_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit in one frame"):
        frames.message(1, 4096, b"", frames.HEADERS, b"x" * 4090, b"")


def test_a_name_is_no_longer_than_its_length_can_say() -> None:
    assert frames.short("é" * 127) == b"\xfe" + "é".encode() * 127
    with pytest.raises(ValueError, match="256 bytes"):
        frames.short("é" * 128)
