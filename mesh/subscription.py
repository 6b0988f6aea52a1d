"""Event handlers that lose nothing and are held up by nothing.

    @event_handler("orders", "order_confirmed")
    def on_order_confirmed(self, event): ...      # the queue is named after this method: keep it

Stock Nameko acks an event even when its handler raised, and `requeue_on_error` is a hot loop. Here:

    the handler raised        it is called again after a pause that grows, TRIES times in all
    Unavailable was raised    the same, but for ever: a database that is away is not the event's fault
    it still raises           the event is parked in `<queue>.dead`, with the reason, handler and time
    the process died of it    the broker gives it out again, LIVES times in all, then parks it there

The queue is a quorum queue, which counts how often it has given a message out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Any

from kombu.entity import Queue
from nameko import events as stock
from nameko.amqp.publish import Publisher
from nameko.events import BROADCAST

from mesh.backoff import back_off
from mesh.context import validated_context
from mesh.draining import DRAIN_SECONDS, DrainingConsumer
from mesh.errors import Unavailable
from mesh.settings import broker_options

__all__ = ["BROADCAST", "event_handler"]

log = logging.getLogger(__name__)

TRIES = 5
LIVES = 5
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class Subscriber(DrainingConsumer):
    """Declares the queue of the parked beside the one that it consumes."""

    parking: Queue | None = None

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        if self.parking is not None:
            self.parking.bind(channel).declare()
        return super().get_consumers(consumer_cls, channel)


class EventHandler(stock.EventHandler):
    consumer_cls = Subscriber

    def setup(self) -> None:
        super().setup()
        self._stopping = Event()
        self._failures: Counter[Any] = Counter()
        if self.handler_type is BROADCAST:
            return  # gone with its process, and never worth keeping
        parking = f"{self.queue.name}.dead"
        self.queue.queue_arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": LIVES - 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": parking,
        }
        self.consumer.parking = Queue(parking, durable=True, queue_arguments={"x-queue-type": "quorum"})
        self._publisher = Publisher(self.amqp_uri, mandatory=True, retry=False, **broker_options())

    def stop(self) -> None:
        self._stopping.set()
        super().stop()
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def handle_message(self, body: Any, message: Any) -> None:
        message.headers = validated_context(message.headers)
        if isinstance(body, Mapping):
            super().handle_message(body, message)
        else:
            self._park(message, "an event is an object")

    def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
        if exc_info is None or self.handler_type is BROADCAST:
            self._failures.pop(message.delivery_tag, None)
            self.consumer.ack_message(message)
        else:
            # The worker is free again; only this message, and its place in the prefetch, waits.
            again = partial(self._try_again, message, exc_info[1])
            self.container.spawn_managed_thread(again, identifier=f"retry {self.queue.name}")

    def _try_again(self, message: Any, error: BaseException) -> None:
        self._failures[message.delivery_tag] += 1
        failures = self._failures[message.delivery_tag]
        if failures >= TRIES and not isinstance(error, Unavailable):
            self._park(message, f"{type(error).__name__}: {error}")
            return
        log.warning("%s failed %d times: %s: %s", self.method_name, failures, type(error).__name__, error)
        if self._stopping.wait(back_off(failures, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)):
            self.consumer.requeue_message(message)  # the next one to take it starts to count anew
        else:
            self.handle_message(message.payload, message)

    def _park(self, message: Any, reason: str) -> None:
        """Out of the way, but not gone. What can't be parked goes back to its queue."""
        self._failures.pop(message.delivery_tag, None)
        headers = {
            "x-reason": reason[:1000],
            "x-handler": f"{self.container.service_name}.{self.method_name}",
            "x-parked-at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        log.error("parked in %s.dead: %s", self.queue.name, reason)
        try:
            self._publisher.publish(
                message.payload,
                routing_key=f"{self.queue.name}.dead",
                headers={**message.headers, **headers},
                message_id=message.properties.get("message_id"),
            )
        except Exception:
            log.exception("could not be parked, goes back to %s", self.queue.name)
            self.consumer.requeue_message(message)
        else:
            self.consumer.ack_message(message)


event_handler = EventHandler.decorator
