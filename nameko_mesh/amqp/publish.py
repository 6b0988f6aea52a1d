"""Sends a message on a channel that another green thread reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amqp import serialization
from amqp.exceptions import RecoverableConnectionError

from nameko_mesh.amqp import frames
from nameko_mesh.amqp.serialization import JSON

_TRANSIENT = 1


def send(
    channel: Any,
    body: bytes,
    *,
    exchange: str,
    routing_key: str,
    content_type: str = JSON,
    content_encoding: str = "utf-8",
    headers: Mapping[str, Any] | None = None,
    mandatory: bool = False,
    delivery_mode: int = _TRANSIENT,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    expiration: str | None = None,
    message_id: str | None = None,
) -> None:
    """Queue the message for sending and return at once, without a confirm.

    py-amqp's `basic_publish` may not be used here, because it reads incoming frames itself.
    Raises RecoverableConnectionError or OSError when the connection is lost, and ValueError when a name or
    the headers exceed the limits of AMQP.
    """
    flags = frames.TYPE | frames.ENCODING | frames.DELIVERY_MODE
    properties = [frames.short(content_type), frames.short(content_encoding)]
    if headers:
        flags |= frames.HEADERS
        properties.append(_table(headers))
    properties.append(bytes((delivery_mode,)))
    for flag, text in (
        (frames.CORRELATION_ID, correlation_id),
        (frames.REPLY_TO, reply_to),
        (frames.EXPIRATION, expiration),
        (frames.MESSAGE_ID, message_id),
    ):
        if text is not None:
            flags |= flag
            properties.append(frames.short(text))
    number, connection = channel.channel_id, channel.connection
    if connection is None:
        raise RecoverableConnectionError("the channel is closed")
    method = frames.publish(number, exchange, routing_key, mandatory)
    data = frames.message(number, connection.frame_max, method, flags, b"".join(properties), body)
    connection.transport.write(data)


def _table(headers: Mapping[str, Any]) -> bytes:
    try:
        return frames.table(headers)
    except TypeError:  # a type that only py-amqp encodes, such as a date
        return bytes(serialization.dumps("F", (headers,)))
