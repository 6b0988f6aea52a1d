"""Check that a consumer receives, with a message that the instance sends to itself.

The message arrives only if the broker knows the consumer and its reading loop runs. A flag or a timer would
report success in both failures.
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
    """A consumer that also reads a queue of its own, on the same channel, for its probes.

    The queue is exclusive to the connection and ends with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.probe_queue = ""
        """Empty until the first connect."""
        self._expected: dict[str, Event] = {}

    @property
    def connection(self) -> Connection:
        return transport.connection(
            self.amqp_uri, ssl=self.ssl, login_method=self.login_method, heartbeat=self.heartbeat
        )

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        consumers = super().get_consumers(consumer_cls, channel)
        queue = Queue(f"self-call-{uuid.uuid4()}", exclusive=True, auto_delete=True)
        probe_consumer = consumer_cls(queues=[queue], on_message=self._on_probe, no_ack=True)
        self.probe_queue = queue.name
        return [*consumers, probe_consumer]

    def expect(self, probe_id: str) -> Event:
        """Return an event that is set when the probe arrives. Call `forget` afterwards."""
        return self._expected.setdefault(probe_id, Event())

    def forget(self, probe_id: str) -> None:
        self._expected.pop(probe_id, None)

    def _on_probe(self, message: Any) -> None:
        if (arrived := self._expected.get(message.properties.get("correlation_id"))) is not None:
            arrived.set()


class ConsumerProbe:
    """Sends probes over a connection of its own, because a busy pool must not delay them."""

    def __init__(self) -> None:
        self._lock = Lock()  # the channel takes a single probe at a time
        self._connection: Connection | None = None

    def unreachable(self, consumers: Iterable[ProbedConsumer], timeout: float) -> list[ProbedConsumer]:
        """Return the consumers whose probe did not arrive within `timeout` seconds.

        Consumers that have never connected are not probed. Raises Unavailable when the broker takes no
        message, because the state of the consumers is then unknown.
        """
        probe_id = str(uuid.uuid4())
        probed = [consumer for consumer in consumers if consumer.probe_queue]
        arrivals = [consumer.expect(probe_id) for consumer in probed]
        try:
            with eventlet.Timeout(timeout, False):
                self._send(probe_id, [consumer.probe_queue for consumer in probed], timeout)
                for arrived in arrivals:
                    arrived.wait()
                return []
            if self._connection is None:  # the timeout interrupted the sending
                raise Unavailable("the broker takes no messages")
            return [
                consumer for consumer, arrived in zip(probed, arrivals, strict=True) if not arrived.is_set()
            ]
        finally:
            for consumer in probed:
                consumer.forget(probe_id)

    def _send(self, probe_id: str, queues: Iterable[str], timeout: float) -> None:
        with self._lock:
            connection, self._connection = self._connection or self._open(timeout), None
            sent = False
            try:
                _publish_probes(connection, probe_id, queues)
                sent = True
            except (*connection.connection_errors, *connection.channel_errors) as error:
                raise Unavailable("the broker takes no messages") from error
            finally:  # after a timeout too: a channel that still waits for a confirm cannot be used again
                if sent:
                    self._connection = connection
                else:
                    connection.collect()

    def _open(self, timeout: float) -> Connection:
        connection = Connection(
            required("AMQP_URI"),
            connect_timeout=timeout,
            transport_options={"confirm_publish": True, "confirm_timeout": timeout, "max_retries": 0},
            **broker_options(),
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


def _publish_probes(connection: Connection, probe_id: str, queues: Iterable[str]) -> None:
    producer = connection.Producer(auto_declare=False)
    properties = {"correlation_id": probe_id, "delivery_mode": "transient", "expiration": 10}
    for queue in queues:
        producer.publish("", routing_key=queue, **properties)
