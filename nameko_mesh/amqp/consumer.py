"""A consumer that finishes what it has begun.

Nameko's own closes its channel about a second after SIGTERM while workers run on; the broker then
hands their messages to another instance, which executes them again. This one stops taking
messages, waits until each that it took is answered or given back, and only then closes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

from nameko_mesh.amqp.consumer_probe import ProbedConsumer

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
"""A call that takes longer is given up: the supervisor's patience ends at 30 s."""
RETURN_SECONDS = 1.0
_POLL_SECONDS = 0.5


class DrainingConsumer(ProbedConsumer):
    """`declare_beside` is called with a channel after each connect. `on_undecodable` takes a message
    that can't be read, and the error; it settles the message.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drained = Event()
        self.declare_beside: Callable[[Any], None] = lambda channel: None
        self.on_undecodable: Callable[[Any, Exception], None] = lambda message, _: self.ack_message(message)
        self._in_flight: set[tuple[int, int]] = set()

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        self.declare_beside(channel)
        return super().get_consumers(consumer_cls, channel)

    def on_message(self, body: Any, message: Any) -> None:
        if not self.should_stop:
            self._in_flight.add(_key(message))
        super().on_message(body, message)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._in_flight.add(_key(message))
        self.on_undecodable(message, exc)

    def ack_message(self, message: Any) -> None:
        try:
            super().ack_message(message)
        except OSError:  # the connection is gone: the broker gives the message out again
            log.warning("an ack was lost with its connection")
        finally:
            self._in_flight.discard(_key(message))

    def requeue_message(self, message: Any) -> None:
        try:
            super().requeue_message(message)
        except OSError:
            log.debug("given back by the end of its connection")
        finally:
            self._in_flight.discard(_key(message))

    def settle(self, message: Any, act: Callable[[], None]) -> None:
        """Do with a message what has to be done, then let go of it; what fails goes back, after a while."""
        try:
            act()
        except Exception:
            log.exception("a message goes back to its queue")
            time.sleep(RETURN_SECONDS)
            self.requeue_message(message)
        else:
            self.ack_message(message)

    def run(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().run(*args, **kwargs)
        finally:
            self.drained.set()

    def consume(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """As kombu's, with the drain between the last message and the closing of the channel."""
        self._in_flight.clear()  # a new connection: the broker gives out again what the old one held
        with self.consumer_context() as (connection, _, consumers):
            while not self.should_stop:
                yield from self._wait_for_messages(connection)
            for consumer in consumers:
                consumer.cancel()
            end = time.monotonic() + DRAIN_SECONDS
            while self._in_flight and time.monotonic() < end:
                yield from self._wait_for_messages(connection)

    def _wait_for_messages(self, connection: Any) -> Iterator[None]:
        try:
            connection.drain_events(timeout=_POLL_SECONDS)
        except TimeoutError:
            connection.heartbeat_check()
        else:
            yield


def _key(message: Any) -> tuple[int, int]:
    return id(message.channel), message.delivery_tag
