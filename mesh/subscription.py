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
    it still raises           it is parked, with the reason, handler and time (mesh.dead_letters)
    it can't be read          the same, at once
    the process died of it    the broker gives it out again, LIVES times in all, then parks it

The queue is a quorum queue, which counts how often it has given a message out. It can't tell a message
that kills from one that was in hand when somebody else killed, so LIVES is far more than the restarts
that an innocent message may meet: it is in hand for milliseconds, or for seconds while a database is away.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from threading import Event
from typing import Any

from nameko import events as stock
from nameko.events import BROADCAST
from nameko.messaging import decode_from_headers

from mesh.backoff import back_off
from mesh.context import validated_context
from mesh.dead_letters import ATTEMPTS, DeadLetters, count_in
from mesh.draining import DRAIN_SECONDS, DrainingConsumer
from mesh.errors import Unavailable
from mesh.workers import start_worker

__all__ = ["BROADCAST", "batch_handler", "event_handler"]

log = logging.getLogger(__name__)

TRIES = 5
LIVES = 20
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
MOST_TOGETHER = 200
"""How many events a batch handler takes at once."""


class EventHandler(stock.EventHandler):
    consumer_cls = DrainingConsumer

    def __init__(self, *args: Any, for_ever: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.for_ever = for_ever
        self._stopping = Event()
        self._unavailable = 0
        """How many times in a row something that the handler needs was away."""

    def setup(self) -> None:
        super().setup()
        if self.handler_type is BROADCAST:
            return  # its queue is gone with its process, and its events are never worth keeping
        self._letters = DeadLetters(self.queue.name)
        self.queue.queue_arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": LIVES - 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._letters.dead.name,
        }
        self.consumer.declare_beside = self._letters.declare
        self.consumer.on_undecodable = lambda message, error: self._aside(
            message, partial(self._park, message, f"it can't be read: {error}")
        )

    def stop(self) -> None:
        self._stopping.set()
        super().stop()
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def handle_message(self, body: Any, message: Any) -> None:
        message.headers = validated_context(message.headers)
        if isinstance(body, Mapping):
            start_worker(
                self.container,
                self,
                (body,),
                {},
                context_data=decode_from_headers(message.headers),
                handle_result=partial(self.handle_result, message),
                on_killed=partial(self.consumer.requeue_message, message),
            )
        elif self.handler_type is BROADCAST:
            self.consumer.ack_message(message)
        else:
            self._aside(message, partial(self._park, message, "an event is an object"))

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

    def _park(self, message: Any, reason: str) -> None:
        self._letters.park(message, reason, f"{self.container.service_name}.{self.method_name}")


event_handler = EventHandler.decorator


class BatchHandler(EventHandler):
    """Hands over a list: all events that have come while the list before was being handled.

    Alone, an event is handed over at once. A list that fails is handed over again event by event,
    each on its own account.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"prefetch_count": MOST_TOGETHER, **kwargs})
        self._waiting: deque[Any] = deque()
        self._one_by_one: deque[Any] = deque()
        self._busy = False

    def handle_message(self, body: Any, message: Any) -> None:
        if not isinstance(body, Mapping):
            super().handle_message(body, message)
            return
        message.headers = validated_context(message.headers)
        self._waiting.append(message)
        self._hand_over()

    def _hand_over(self) -> None:
        if self._busy or not (self._waiting or self._one_by_one):
            return
        self._busy = True
        if self._one_by_one:
            messages = [self._one_by_one.popleft()]
        else:
            messages = list(self._waiting)
            self._waiting.clear()
        start_worker(
            self.container,
            self,
            ([message.payload for message in messages],),
            {},
            context_data=decode_from_headers(messages[0].headers),
            handle_result=partial(self._handled, messages),
            on_killed=partial(self._give_back, messages),
        )

    def _give_back(self, messages: list[Any]) -> None:
        for message in messages:
            self.consumer.requeue_message(message)

    def _handled(self, messages: list[Any], worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        if exc_info is None or len(messages) == 1:
            for message in messages:
                self.handle_message_processed(message, result, exc_info)
        else:
            self._one_by_one.extend(messages)
        self._busy = False
        self._hand_over()
        return result, exc_info


batch_handler = BatchHandler.decorator
