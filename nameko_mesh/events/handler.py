"""Event handlers that lose nothing and are held up by nothing.

    @event_handler("orders", "order_confirmed")
    def on_order_confirmed(self, event): ...      # the queue is named after this method: keep it

    @batch_handler("orders", "order_confirmed")
    def on_order_confirmed(self, events): ...     # the same, many in one transaction when many come

Stock Nameko acks an event even when its handler raised, and `requeue_on_error` is a hot loop. Here:

    the handler raised        the event comes again after a pause that grows, TRIES times in all
    ... and `for_ever=True`   as often as it takes: for what must happen, such as giving stock back
    Unavailable was raised    it comes again, uncounted: a database that is away is not its fault; until
                              then it keeps its place here, so that the queue waits and not the database
    it still raises           it is parked, with the reason, handler and time (nameko_mesh.amqp.dead_letters)
    it can't be read          the same, at once
    the process died of it    the broker gives it out again, LIVES times in all, then parks it

Events of a relay come in bundles (nameko_mesh.events.exchanges): several in a message, each settled alone.

The queue is a quorum queue, which counts how often it has given a message out. It can't tell a message
that kills from one that was in hand when somebody else killed, so LIVES is far more than the restarts
that an innocent message may meet: it is in hand for milliseconds, or for seconds while a database is away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event as Signal
from typing import Any

from nameko import events as stock
from nameko.events import BROADCAST
from nameko.messaging import decode_from_headers

from nameko_mesh.amqp.consumer import DRAIN_SECONDS
from nameko_mesh.amqp.dead_letters import ATTEMPTS, DELIVERIES, DeadLetters, count_in
from nameko_mesh.backoff import back_off
from nameko_mesh.context import validated_context
from nameko_mesh.errors import Unavailable
from nameko_mesh.events import exchanges
from nameko_mesh.events.bundle import Bundle, BundleConsumer, Event, events_in
from nameko_mesh.workers import start_worker

__all__ = ["BROADCAST", "event_handler"]

log = logging.getLogger(__name__)

TRIES = 5
LIVES = 20
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
TOGETHER_LIVES = 3
"""Events of one message that has been given out so often go on apart: perhaps one of them kills."""


def _context(message: Any) -> dict[str, Any]:
    """Without a deadline: that of the call in which a stock dispatcher published it is not the event's."""
    context: dict[str, Any] = decode_from_headers(message.headers)
    context.pop("deadline", None)
    return context


class EventHandler(stock.EventHandler):
    consumer_cls = BundleConsumer

    def __init__(self, *args: Any, for_ever: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.for_ever = for_ever
        self._stopping = Signal()
        self._unavailable = 0
        """How many times in a row something that the handler needs was away."""

    def setup(self) -> None:
        super().setup()
        exchanges.bind(self.queue, self.source_service, self.event_type)
        self.consumer.declare_beside = self._declare
        if self.handler_type is BROADCAST:
            return  # its queue is gone with its process, and its events are never worth keeping
        self._letters = DeadLetters(self.queue.name)
        self.queue.queue_arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": LIVES - 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._letters.dead.name,
        }
        self.consumer.on_undecodable = lambda message, error: self._aside(
            message, partial(self._park, message, f"it can't be read: {error}")
        )

    def _declare(self, channel: Any) -> None:
        exchanges.declare(channel, self.queue, self.source_service, self.event_type)
        if self.handler_type is not BROADCAST:
            self._letters.declare(channel)

    def stop(self) -> None:
        self._stopping.set()
        super().stop()
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def handle_message(self, body: Any, message: Any) -> None:
        message.headers = validated_context(message.headers)
        events = events_in(body)
        if events is None:
            self._refuse(message)
        elif len(events) > 1 and count_in(message.headers, DELIVERIES) >= TOGETHER_LIVES:
            self._aside(message, partial(self._take_apart, message, events))
        else:
            self._take(events, message)

    def _refuse(self, message: Any) -> None:
        if self.handler_type is BROADCAST:
            self.consumer.ack_message(message)
        else:
            self._aside(message, partial(self._park, message, "an event is an object"))

    def _take(self, events: Sequence[Event], message: Any) -> None:
        """One after the other, and those of other messages meanwhile."""
        if events[0] is message.payload:
            self._handle(message)
        else:
            self._handle(Bundle(message, events, follow=self._handle).shares[0])

    def _handle(self, message: Any) -> None:
        start_worker(
            self.container,
            self,
            (message.payload,),
            {},
            context_data=_context(message),
            handle_result=partial(self.handle_result, message),
            on_killed=partial(self.consumer.requeue_message, message),
        )

    def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
        if exc_info is None or self.handler_type is BROADCAST:
            self._unavailable = 0
            self.consumer.ack_message(message)
        else:
            self._aside(message, partial(self._not_handled, message, exc_info[1]))

    def _aside(self, message: Any, act: Callable[[], None]) -> None:
        """In a thread of its own: neither the consumer nor a worker waits for it."""
        settle = partial(self.consumer.settle, message, act)
        self.container.spawn_managed_thread(settle, identifier=f"aside {self.queue.name}")

    def _not_handled(self, message: Any, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, Unavailable):
            self._unavailable += 1
            log.warning("%s waits: %s", self.method_name, reason)
            self._stopping.wait(back_off(self._unavailable, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
            self._letters.give_again(message)
            return
        attempts = count_in(message.headers, ATTEMPTS) + 1
        if attempts >= TRIES and not self.for_ever:
            self._park(message, reason)
            return
        level = logging.ERROR if attempts >= TRIES else logging.WARNING
        log.log(level, "%s failed %d times: %s", self.method_name, attempts, reason)
        pause = back_off(attempts, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._letters.give_later(message, pause, reason, attempts)

    def _take_apart(self, message: Any, events: Sequence[Event]) -> None:
        """So that lives are lost, and counted, by each event for itself."""
        for share in Bundle(message, events).shares:
            self._letters.give_again(share)

    def _park(self, message: Any, reason: str) -> None:
        self._letters.park(message, reason, f"{self.container.service_name}.{self.method_name}")


event_handler = EventHandler.decorator
