"""Publishing many messages at once, with a confirm for each (https://www.rabbitmq.com/docs/confirms).

Nameko's publisher waits for the confirm of one message before it sends the next: a round trip, and
often a disk write, for each. Here a batch leaves in one go and its confirms are waited for together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Any

import eventlet
from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.exceptions import KombuError

from nameko_mesh.amqp import transport
from nameko_mesh.amqp.publish import send
from nameko_mesh.errors import Unavailable
from nameko_mesh.settings import broker_options, required
from nameko_mesh.values import value

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
_PERSISTENT = 2


class Fate(Enum):
    """What the broker made of a message."""

    KEPT = "it answers for it"
    UNROUTABLE = "no queue takes it"
    REFUSED = "it could not keep it"


@value
class Parcel:
    """A message in JSON. `message_id` is the id that no other message of its batch has."""

    message_id: str
    exchange: str
    routing_key: str
    body: bytes
    mandatory: bool
    headers: Mapping[str, Any] = field(default_factory=dict)


class ConfirmedPublisher:
    """Publishes to these exchanges over a connection of its own. For one green thread at a time."""

    def __init__(self, *exchanges: Exchange) -> None:
        self._exchanges = exchanges
        self._connection: Connection | None = None
        self._channel: Any = None
        self._sent = 0
        """The number of the last message on the channel, by which the broker confirms."""
        self._unsettled: set[int] = set()
        self._refused: set[int] = set()
        self._returned: set[str] = set()

    def publish(self, parcels: Sequence[Parcel], seconds: float) -> list[Fate]:
        """The fate of each, in their order, within so many seconds.

        Raises Unavailable when not all of them are known by then: any of them may have been kept.
        """
        done = False
        try:
            with eventlet.Timeout(seconds, Unavailable("the broker does not confirm")):
                if self._channel is None:
                    self._open()
                numbers = [self._send(parcel) for parcel in parcels]
                while self._unsettled:
                    self._channel.connection.drain_events()
            done = True
            return [self._fate(number, parcel) for number, parcel in zip(numbers, parcels, strict=True)]
        except (AMQPError, KombuError, OSError) as error:
            raise Unavailable(f"the broker went away: {error}") from error
        finally:
            self._refused.clear()
            self._returned.clear()
            if not done:  # what it would still say is about messages that nobody remembers
                self.close()

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _open(self) -> None:
        options = broker_options()
        self._connection = transport.connection(
            required("AMQP_URI"),
            connect_timeout=CONNECT_SECONDS,
            ssl=options["ssl"],
            login_method=options["login_method"],
        )
        channel = self._connection.channel()
        for exchange in self._exchanges:
            exchange(channel).declare()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel, self._sent = channel, 0
        self._unsettled.clear()

    def _send(self, parcel: Parcel) -> int:
        send(
            self._channel,
            parcel.body,
            exchange=parcel.exchange,
            routing_key=parcel.routing_key,
            mandatory=parcel.mandatory,
            delivery_mode=_PERSISTENT,
            message_id=parcel.message_id,
            headers=dict(parcel.headers),
        )
        self._sent += 1
        self._unsettled.add(self._sent)
        return self._sent

    def _fate(self, number: int, parcel: Parcel) -> Fate:
        if number in self._refused:
            return Fate.REFUSED
        return Fate.UNROUTABLE if parcel.message_id in self._returned else Fate.KEPT

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._unsettled -= self._meant(number, multiple)

    def _on_nack(self, number: int, multiple: bool) -> None:
        meant = self._meant(number, multiple)
        self._refused |= meant
        self._unsettled -= meant

    def _meant(self, number: int, multiple: bool) -> set[int]:
        return {one for one in self._unsettled if one <= number} if multiple else {number}

    def _on_return(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        """The broker says that no queue takes a message before it confirms it."""
        self._returned.add(message.properties["message_id"])
