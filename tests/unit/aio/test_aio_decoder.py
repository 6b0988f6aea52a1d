"""The decoder agrees with pamqp about valid frames, and rejects garbage."""

from __future__ import annotations

import random

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from nameko_mesh.aio.amqp import decoder as wire
from nameko_mesh.aio.amqp.decoder import Decoder, Message, ProtocolError, Received

MAX_FRAME_BYTES = 4096


def a_decoder() -> Decoder:
    decoder = Decoder(MAX_FRAME_BYTES)
    decoder.channels.add(1)
    return decoder


def a_delivery(body: bytes, properties: commands.Basic.Properties | None = None, tag: int = 7) -> bytes:
    method = commands.Basic.Deliver("consumer", tag, False, "exchange", "key")
    return content(method, body, properties)


def content(method: object, body: bytes, properties: commands.Basic.Properties | None = None) -> bytes:
    room = MAX_FRAME_BYTES - 8
    chunks = [body[at : at + room] for at in range(0, len(body), room)]
    return b"".join(
        frame.marshal(part, 1)
        for part in [method, ContentHeader(0, len(body), properties), *map(ContentBody, chunks)]
    )


def read(data: bytes, decoder: Decoder | None = None) -> list[tuple[int, Received]]:
    return list((decoder or a_decoder()).feed(data))


def one_message(data: bytes) -> Message:
    ((channel, message),) = read(data)
    assert channel == 1
    assert isinstance(message, Message)
    return message


ALL_PROPERTIES = commands.Basic.Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"nameko.call_id_stack": ["a", "b"], "n": 5, "deep": {"x": None}},
    delivery_mode=2,
    priority=3,
    correlation_id="c-1",
    reply_to="r",
    expiration="100",
    message_id="m",
    message_type="t",
    user_id="u",
    app_id="a",
)


@pytest.mark.parametrize(
    ("properties", "correlation_id"),
    [
        (None, ""),
        (ALL_PROPERTIES, "c-1"),
        (commands.Basic.Properties(correlation_id="only"), "only"),
        (commands.Basic.Properties(priority=1, correlation_id="é"), "é"),
        (commands.Basic.Properties(headers={}, reply_to="r"), ""),
        (
            commands.Basic.Properties(content_encoding="x", delivery_mode=1, correlation_id="i" * 255),
            "i" * 255,
        ),
    ],
)
def test_correlation_id_is_read_among_any_properties(
    properties: commands.Basic.Properties | None, correlation_id: str
) -> None:
    assert one_message(a_delivery(b"{}", properties)).correlation_id == correlation_id


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME_BYTES - 8, MAX_FRAME_BYTES - 7, 3 * MAX_FRAME_BYTES])
def test_body_of_any_size_arrives_complete(size: int) -> None:
    body = random.Random(size).randbytes(size)

    message = one_message(a_delivery(body))

    assert message.body == body
    assert message.delivery_tag == 7
    assert not message.returned


def test_returned_message_is_marked_as_returned() -> None:
    method = commands.Basic.Return(312, "NO_ROUTE", "nameko-rpc", "nobody.echo")

    message = one_message(content(method, b"{}", ALL_PROPERTIES))

    assert message.returned
    assert message.correlation_id == "c-1"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_may_be_split_anywhere(step: int) -> None:
    data = b"".join(a_delivery(bytes([n]) * 900 * n, tag=n) for n in range(4))
    decoder = a_decoder()

    items = [item for at in range(0, len(data), step) for _, item in decoder.feed(data[at : at + step])]

    assert [(item.delivery_tag, item.body) for item in items if isinstance(item, Message)] == [
        (n, bytes([n]) * 900 * n) for n in range(4)
    ]


def test_rare_methods_are_decoded_as_by_pamqp() -> None:
    method = commands.Queue.DeclareOk("reply", 3, 4)

    ((channel, item),) = read(frame.marshal(method, 1))

    assert channel == 1
    assert isinstance(item, commands.Queue.DeclareOk)
    assert (item.queue, item.message_count, item.consumer_count) == ("reply", 3, 4)


def test_heartbeats_yield_nothing() -> None:
    assert read(frame.marshal(Heartbeat(), 0) * 2) == []


def test_oversized_message_is_dropped_while_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 1000)

    message = one_message(a_delivery(b"x" * 1001, ALL_PROPERTIES))

    assert message.body == b""
    assert message.correlation_id == "c-1"


def raw(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    return (
        bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + bytes([end])
    )


DELIVER = frame.marshal(commands.Basic.Deliver("c", 1, False, "e", "k"), 1)
HEADER = frame.marshal(ContentHeader(0, 5), 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"AMQP\x00\x00\x09\x01", id="another version"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(raw(1, 1, b"\0\x0a\0\x0a", end=0), id="no end mark"),
        pytest.param(b"\x03\0\x01" + (2**31).to_bytes(4, "big"), id="longer than agreed"),
        pytest.param(frame.marshal(commands.Channel.OpenOk(), 9), id="channel that is not open"),
        pytest.param(raw(1, 1, b"\xff\xff\xff\xff"), id="unknown method"),
        pytest.param(raw(1, 1, b"\0"), id="half a method"),
        pytest.param(raw(1, 1, b""), id="empty method"),
        pytest.param(raw(1, 1, b"\0\x3c\0\x3c\xff"), id="cut delivery"),
        pytest.param(raw(7, 1, b"x"), id="unknown kind"),
        pytest.param(frame.marshal(ContentBody(b"x"), 1), id="body of nothing"),
        pytest.param(HEADER, id="header of nothing"),
        pytest.param(DELIVER + DELIVER, id="method amid a message"),
        pytest.param(DELIVER + HEADER + HEADER, id="two headers"),
        pytest.param(DELIVER + frame.marshal(ContentBody(b"x"), 1), id="body before its header"),
        pytest.param(DELIVER + HEADER + frame.marshal(ContentBody(b"123456"), 1), id="more body than said"),
        pytest.param(DELIVER + HEADER + raw(3, 1, b""), id="empty body for ever"),
        pytest.param(DELIVER + raw(2, 1, b"\0\x3c"), id="cut header"),
        pytest.param(
            DELIVER + raw(2, 1, b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\x04\0\x09ab"),
            id="correlation id that ends beyond its frame",
        ),
        pytest.param(
            DELIVER + raw(2, 1, b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\x24\0" + b"\xff" * 4),
            id="headers that end beyond their frame",
        ),
    ],
)
def test_garbage_raises_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


def test_random_bytes_raise_nothing_else_and_are_not_stored() -> None:
    dice = random.Random(7)
    good = a_delivery(b"x" * 100, ALL_PROPERTIES) + frame.marshal(commands.Queue.DeclareOk("q", 1, 1), 1)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        decoder = a_decoder()
        try:
            for _ in decoder.feed(bytes(data)):
                pass
        except ProtocolError:
            continue
        assert len(decoder._rest) <= MAX_FRAME_BYTES


def test_correlation_id_is_never_read_from_the_next_frame() -> None:
    header = raw(2, 1, b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\x04\0\x09ab")

    with pytest.raises(ProtocolError):
        read(DELIVER + header + frame.marshal(ContentBody(b"xxxxxxxxxxxxx"[:1]), 1))
    with pytest.raises(ProtocolError):
        read(DELIVER + raw(2, 1, b"\0\x3c\0\0" + (0).to_bytes(8, "big") + b"\x84\0\x02j"))
