"""Requests that are encoded by hand, as pamqp decodes them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from nameko_mesh.aio.amqp.request_encoder import RequestEncoder
from nameko_mesh.amqp.frames import ack

MAX_FRAME_BYTES = 4096


def encoded(**changes: Any) -> bytes:
    request: dict[str, Any] = {
        "routing_key": "products.get_product",
        "body": b'{"args":[],"kwargs":{}}',
        "correlation_id": "p-1",
        "call_id": "gateway.products.1",
        "deadline": 1763900000.25,
        "expiration_ms": 1500,
        "context": {"request_id": "r-é"},
    }
    return RequestEncoder(1, MAX_FRAME_BYTES, "nameko-rpc", "reply-1").encode(**request | changes)


def frames(data: bytes) -> list[Any]:
    items = []
    while data:
        size, channel, item = frame.unmarshal(data)
        assert channel == 1
        assert size <= MAX_FRAME_BYTES
        items.append(item)
        data = data[size:]
    return items


def test_request_is_encoded_as_stock_nameko_expects() -> None:
    publish, header, body = frames(encoded())

    assert isinstance(publish, commands.Basic.Publish)
    assert (publish.exchange, publish.routing_key) == ("nameko-rpc", "products.get_product")
    assert publish.mandatory
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(body.value)
    assert dict(header.properties) == {
        **dict.fromkeys(commands.Basic.Properties.attributes()),
        "cluster_id": "",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 1,
        "correlation_id": "p-1",
        "reply_to": "reply-1",
        "expiration": "1500",
        "headers": {
            "nameko.call_id_stack": ["gateway.products.1"],
            "nameko.deadline": 1763900000.25,
            "nameko.request_id": "r-é",
        },
    }


def test_request_without_context_has_no_context_headers() -> None:
    _, header, _ = frames(encoded(context=None))

    assert set(header.properties.headers) == {"nameko.call_id_stack", "nameko.deadline"}


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME_BYTES - 8, MAX_FRAME_BYTES - 7, 3 * MAX_FRAME_BYTES])
def test_body_is_split_into_frames_of_the_agreed_size(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)

    _, header, *chunks = frames(encoded(body=body[:size]))

    assert header.body_size == size
    assert all(isinstance(chunk, ContentBody) for chunk in chunks)
    assert b"".join(chunk.value for chunk in chunks) == body[:size]


@pytest.mark.parametrize(
    "changes",
    [
        {"routing_key": "s." + "m" * 255},
        {"context": {"request_id": "x" * MAX_FRAME_BYTES}},
        {"context": {"k" * 255: "x"}},
        {"context": {"call_id_stack": "x"}},
        {"context": {"deadline": "x"}},
    ],
)
def test_request_that_does_not_fit_in_a_frame_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, struct.error)) as caught:
        encoded(**changes)

    assert caught.type is ValueError


def test_acknowledgement_names_one_delivery() -> None:
    (sent,) = frames(ack(1, 2**40))

    assert isinstance(sent, commands.Basic.Ack)
    assert (sent.delivery_tag, sent.multiple) == (2**40, False)
