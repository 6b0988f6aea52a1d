"""Publish batches of messages with publisher confirms (https://www.rabbitmq.com/docs/confirms).

Nameko's publisher waits for a confirm after each message: a round trip, and often a disk write, per
message. ConfirmedPublisher sends the whole batch first, then waits for all confirms together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import eventlet
import msgspec
from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.exceptions import KombuError

from nameko_mesh.amqp import transport
from nameko_mesh.amqp.publish import send
from nameko_mesh.errors import Unavailable
from nameko_mesh.settings import broker_options, required

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 3.0
_PERSISTENT = 2


class PublishResult(Enum):
    """The broker's answer to one published message."""

    CONFIRMED = "the broker has taken responsibility for the message"
    UNROUTABLE = "the message is mandatory, and no queue takes it"
    REJECTED = "the broker could not store the message"


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A JSON message to publish. `message_id` is unique within its batch."""

    message_id: str
    exchange: str
    routing_key: str
    body: bytes
    mandatory: bool
    headers: Mapping[str, Any] = {}


class ConfirmedPublisher:
    """Publishes to the given exchanges over its own connection. One green thread may use it at a time."""

    def __init__(self, *exchanges: Exchange) -> None:
        self._exchanges = exchanges
        self._connection: Connection | None = None
        self._channel: Any = None
        self._last_delivery_tag = 0
        """The broker numbers the messages of a channel from 1, and confirms by number."""
        self._unconfirmed: set[int] = set()
        self._rejected: set[int] = set()
        self._returned: set[str] = set()

    def publish(self, messages: Sequence[OutgoingMessage], timeout: float) -> list[PublishResult]:
        """Publish all messages and return their results, in the same order.

        Raises Unavailable when a confirm is missing after `timeout` seconds. The broker may then hold any of
        the messages.
        """
        done = False
        try:
            with eventlet.Timeout(timeout, _unconfirmed(messages, timeout)):
                if self._channel is None:
                    self._open()
                delivery_tags = [self._send(message) for message in messages]
                while self._unconfirmed:
                    self._channel.connection.drain_events()
            done = True
            return [self._result(tag, message) for tag, message in zip(delivery_tags, messages, strict=True)]
        except (AMQPError, KombuError, OSError) as error:
            raise Unavailable(f"the connection to the broker failed: {error}") from error
        finally:
            self._rejected.clear()
            self._returned.clear()
            if not done:  # late confirms would be counted for the next batch
                self.close()

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _open(self) -> None:
        self._connection = transport.connection(
            required("AMQP_URI"), connect_timeout=CONNECT_TIMEOUT_SECONDS, **broker_options()
        )
        channel = self._connection.channel()
        for exchange in self._exchanges:
            exchange(channel).declare()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel, self._last_delivery_tag = channel, 0
        self._unconfirmed.clear()

    def _send(self, message: OutgoingMessage) -> int:
        send(
            self._channel,
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=message.mandatory,
            delivery_mode=_PERSISTENT,
            message_id=message.message_id,
            headers=dict(message.headers),
        )
        self._last_delivery_tag += 1
        self._unconfirmed.add(self._last_delivery_tag)
        return self._last_delivery_tag

    def _result(self, delivery_tag: int, message: OutgoingMessage) -> PublishResult:
        if delivery_tag in self._rejected:
            return PublishResult.REJECTED
        is_returned = message.message_id in self._returned
        return PublishResult.UNROUTABLE if is_returned else PublishResult.CONFIRMED

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._unconfirmed -= self._covered(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        covered = self._covered(delivery_tag, multiple)
        self._rejected |= covered
        self._unconfirmed -= covered

    def _covered(self, delivery_tag: int, multiple: bool) -> set[int]:
        return {tag for tag in self._unconfirmed if tag <= delivery_tag} if multiple else {delivery_tag}

    def _on_return(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        """Remember an unroutable message; the broker returns it before it sends the confirm."""
        self._returned.add(message.properties["message_id"])


def _unconfirmed(messages: Sequence[OutgoingMessage], timeout: float) -> Unavailable:
    return Unavailable(f"the broker does not confirm {len(messages)} messages in {timeout:g} s")
