"""Event handlers that lose no event, and that a failing event does not block.

    @event_handler("accounts", "account_opened")
    def on_account_opened(self, event): ...      # the queue is named after this method: keep its name

    @batch_handler("accounts", "account_opened")
    def on_account_opened(self, events): ...     # many events in one transaction

Stock Nameko acks an event even when its handler raised, and its `requeue_on_error` retries without a delay.
Here the cause of a failure decides (`EventHandler._on_failure`):

    the handler raised          retried after a growing delay, MAX_ATTEMPTS attempts in all
    ... and `for_ever=True`     retried without limit: for work that must happen
    Unavailable was raised      retried without counting, because the event did not cause the outage; the
                                event stays unacked for a delay, so the queue waits and spares the database
    the last attempt raised     parked, with reason, handler and time (nameko_mesh.amqp.dead_letters)
    the body is undecodable     parked at once
    the process died            redelivered by the broker, MAX_DELIVERIES times in all, then parked by it

A relay publishes events in bundles (nameko_mesh.events.exchanges). Each event of a bundle is settled alone.

The queue is a quorum queue, because the broker then counts deliveries. A crash counts for every unacked event
of the process, also for events that did not cause the crash. MAX_DELIVERIES is therefore much larger than the
crashes that such an event may meet. An event is unacked for milliseconds, or for seconds while a database is
down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from threading import Event as Signal
from typing import Any

from nameko import events as stock
from nameko.events import BROADCAST
from nameko.messaging import decode_from_headers

from nameko_mesh.amqp import serialization
from nameko_mesh.amqp.consumer import DrainingExtension, start_worker
from nameko_mesh.amqp.dead_letters import ATTEMPTS, DELIVERIES, DeadLetters, count_in
from nameko_mesh.backoff import back_off
from nameko_mesh.context import validated_context
from nameko_mesh.errors import Unavailable
from nameko_mesh.events import exchanges
from nameko_mesh.events.bundle import Bundle, BundleConsumer, EventJson, events_of

__all__ = ["BROADCAST", "event_handler"]

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
MAX_DELIVERIES = 20
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 10.0
MAX_BUNDLE_DELIVERIES = 3
"""Deliveries of a bundle until its events are requeued in messages of their own, because one may be fatal."""


def worker_context(message: Any) -> dict[str, Any]:
    """Return the context in the headers, without a deadline.

    A stock dispatcher sends the deadline of the call that published the event. That call does not
    wait for the handler.
    """
    context: dict[str, Any] = decode_from_headers(message.headers)
    context.pop("deadline", None)
    return context


class EventHandler(DrainingExtension, stock.EventHandler):
    """An event entrypoint with retries. `for_ever=True` retries without limit and never parks."""

    consumer_cls = BundleConsumer

    def __init__(self, *args: Any, for_ever: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.for_ever = for_ever
        self._stopping = Signal()
        self._outages = 0
        """Unavailable errors in a row."""

    def setup(self) -> None:
        serialization.install()
        super().setup()
        exchanges.bind(self.queue, self.source_service, self.event_type)
        self.consumer.declare_extra = self._declare
        if self.handler_type is BROADCAST:
            return  # a broadcast queue ends with the process, so its events are never retried or parked
        self._letters = DeadLetters(self.queue.name)
        self.queue.queue_arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": MAX_DELIVERIES - 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._letters.dead.name,
        }
        self.consumer.on_undecodable = self._on_undecodable

    def _declare(self, channel: Any) -> None:
        exchanges.declare(channel, self.queue, self.source_service, self.event_type)
        if self.handler_type is not BROADCAST:
            self._letters.declare(channel)

    def stop(self) -> None:
        self._stopping.set()
        super().stop()

    def handle_message(self, body: Any, message: Any) -> None:
        message.headers = validated_context(message.headers)
        events = events_of(body)
        if events is None:
            self._reject(message)
        elif len(events) > 1 and count_in(message.headers, DELIVERIES) >= MAX_BUNDLE_DELIVERIES:
            self.settle_in_background(message, partial(self._requeue_apart, message, events))
        else:
            self._handle_events(events, message)

    def _on_undecodable(self, message: Any, error: Exception) -> None:
        self.settle_in_background(message, partial(self._park, message, f"the body is undecodable: {error}"))

    def _reject(self, message: Any) -> None:
        if self.handler_type is BROADCAST:
            self.consumer.ack_message(message)
        else:
            self.settle_in_background(message, partial(self._park, message, "the body is no event"))

    def _handle_events(self, events: Sequence[EventJson], message: Any) -> None:
        """Handle the events of one message in sequence. Other messages are handled meanwhile."""
        if events[0] is message.payload:
            self._handle(message)
        else:
            self._handle(Bundle(message, events, handle_next=self._handle).events[0])

    def _handle(self, message: Any) -> None:
        start_worker(
            self.container,
            self,
            (message.payload,),
            {},
            context_data=worker_context(message),
            handle_result=partial(self.handle_result, message),
            on_killed=partial(self.consumer.requeue_message, message),
        )

    def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
        if exc_info is None or self.handler_type is BROADCAST:
            self._outages = 0
            self.consumer.ack_message(message)
        else:
            self.settle_in_background(message, partial(self._on_failure, message, exc_info[1]))

    def _on_failure(self, message: Any, error: BaseException) -> None:
        """Retry the event or park it. The caller acks the message afterwards."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, Unavailable):
            self._retry_after_outage(message, reason)
            return
        attempts = count_in(message.headers, ATTEMPTS) + 1
        if attempts >= MAX_ATTEMPTS and not self.for_ever:
            self._park(message, reason)
            return
        level = logging.ERROR if attempts >= MAX_ATTEMPTS else logging.WARNING
        log.log(level, "%s failed %d times: %s", self.method_name, attempts, reason)
        pause = back_off(attempts, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        self._letters.retry_later(message, pause, reason, attempts)

    def _retry_after_outage(self, message: Any, reason: str) -> None:
        self._outages += 1
        log.warning("%s: the event is retried, because a part is unavailable: %s", self.method_name, reason)
        self._stopping.wait(back_off(self._outages, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS))
        self._letters.requeue(message)

    def _requeue_apart(self, message: Any, events: Sequence[EventJson]) -> None:
        """Requeue each event in its own message, so that the broker counts its deliveries separately."""
        for event in Bundle(message, events).events:
            self._letters.requeue(event)

    def _park(self, message: Any, reason: str) -> None:
        self._letters.park(message, reason, f"{self.container.service_name}.{self.method_name}")


event_handler = EventHandler.decorator
