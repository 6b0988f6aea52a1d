"""A message that an instance sends to itself: it arrives if, and only if, the consumer is there.

A flag or a timer would go on saying that all is well when the broker no longer knows the consumer,
or the loop that reads it hangs.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from threading import Event, Lock
from typing import Any

import eventlet
from kombu.connection import Connection
from kombu.entity import Queue
from nameko.amqp.consume import Consumer

from nameko_mesh.amqp import transport
from nameko_mesh.errors import Unavailable
from nameko_mesh.settings import broker_options, required

log = logging.getLogger(__name__)


class ProbedConsumer(Consumer):
    """A consumer with a queue beside its own, on the same channel, for what it sends to itself.

    The queue belongs to one connection and goes with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.probe_queue = ""
        """Empty until the consumer has been there for the first time."""
        self._expected: dict[str, Event] = {}

    @property
    def connection(self) -> Connection:
        return transport.connection(
            self.amqp_uri, ssl=self.ssl, login_method=self.login_method, heartbeat=self.heartbeat
        )

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        consumers = super().get_consumers(consumer_cls, channel)
        queue = Queue(f"self-call-{uuid.uuid4()}", exclusive=True, auto_delete=True)
        own = consumer_cls(queues=[queue], on_message=self._heard, no_ack=True)
        self.probe_queue = queue.name
        return [*consumers, own]

    def expect(self, call: str) -> Event:
        """Set when the message of this correlation id has arrived; `forget` it afterwards."""
        return self._expected.setdefault(call, Event())

    def forget(self, call: str) -> None:
        self._expected.pop(call, None)

    def _heard(self, message: Any) -> None:
        if (expected := self._expected.get(message.properties.get("correlation_id"))) is not None:
            expected.set()


class ConsumerProbe:
    """Sends over a connection of its own, which it keeps: no pool under load has a say in it."""

    def __init__(self) -> None:
        self._lock = Lock()  # one caller at a time on the channel
        self._connection: Connection | None = None

    def gone(self, consumers: Iterable[ProbedConsumer], seconds: float) -> list[ProbedConsumer]:
        """Those that did not hear their call in time, of those that have once been there.

        Raises Unavailable when the broker takes no calls: then nothing is known of the consumers.
        """
        asked = [consumer for consumer in consumers if consumer.probe_queue]
        call = str(uuid.uuid4())
        heard = [consumer.expect(call) for consumer in asked]
        try:
            with eventlet.Timeout(seconds, False):
                self._send(call, [consumer.probe_queue for consumer in asked], seconds)
                for one in heard:
                    one.wait()
                return []
            if self._connection is None:
                raise Unavailable("the broker takes no messages")
            return [consumer for consumer, one in zip(asked, heard, strict=True) if not one.is_set()]
        finally:
            for consumer in asked:
                consumer.forget(call)

    def _send(self, call: str, queues: Iterable[str], seconds: float) -> None:
        with self._lock:
            connection, self._connection = self._connection or self._open(seconds), None
            sent = False
            try:
                producer = connection.Producer(auto_declare=False)
                for queue in queues:
                    producer.publish(
                        "", routing_key=queue, correlation_id=call, delivery_mode="transient", expiration=10
                    )
                sent = True
            except (*connection.connection_errors, *connection.channel_errors) as error:
                raise Unavailable("the broker takes no messages") from error
            finally:  # also when time runs out in here: a channel that waits for a confirm is of no more use
                if sent:
                    self._connection = connection
                else:
                    connection.collect()

    def _open(self, seconds: float) -> Connection:
        options = broker_options()
        connection = Connection(
            required("AMQP_URI"),
            connect_timeout=seconds,
            ssl=options["ssl"],
            login_method=options["login_method"],
            transport_options={"confirm_publish": True, "confirm_timeout": seconds, "max_retries": 0},
        )
        try:
            connection.connect()
        except (*connection.connection_errors, OSError) as error:
            raise Unavailable("the broker takes no messages") from error
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.collect()
            self._connection = None
