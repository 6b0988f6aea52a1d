"""Event handlers that take many events in one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from nameko_mesh.amqp.consumer import start_worker
from nameko_mesh.events.bundle import Bundle, EventJson
from nameko_mesh.events.handler import EventHandler, worker_context

MAX_EVENTS = 200
"""Limit of the events in one call. A single message with more events is still handled in one call."""
MAX_MESSAGES = 100
"""Limit of the messages that a batch handler prefetches from the broker."""


class _Delivery(NamedTuple):
    """A message, or one event of a bundle, with the events that the method gets for it."""

    message: Any
    events: Sequence[EventJson]


class BatchHandler(EventHandler):
    """Calls its method with a list of all events that arrived during the previous call.

    An event that arrives while no call runs is handled at once. When a list of several events fails, each
    event is handled alone, so that only the failing event is retried or parked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"prefetch_count": MAX_MESSAGES, **kwargs})
        self._waiting: deque[_Delivery] = deque()
        self._one_by_one: deque[_Delivery] = deque()
        self._busy = False

    def _handle_events(self, events: Sequence[EventJson], message: Any) -> None:
        self._waiting.append(_Delivery(message, events))
        self._start_next_batch()

    def _start_next_batch(self) -> None:
        if self._busy or not (self._waiting or self._one_by_one):
            return
        self._busy = True
        batch = [self._one_by_one.popleft()] if self._one_by_one else self._next_batch()
        start_worker(
            self.container,
            self,
            ([event for delivery in batch for event in delivery.events],),
            {},
            context_data=worker_context(batch[0].message),
            handle_result=partial(self._on_batch_result, batch),
            on_killed=partial(self._requeue, batch),
        )

    def _next_batch(self) -> list[_Delivery]:
        batch = [self._waiting.popleft()]
        room = MAX_EVENTS - len(batch[0].events)
        while self._waiting and len(self._waiting[0].events) <= room:
            batch.append(self._waiting.popleft())
            room -= len(batch[-1].events)
        return batch

    def _requeue(self, batch: list[_Delivery]) -> None:
        for delivery in batch:
            self.consumer.requeue_message(delivery.message)

    def _on_batch_result(
        self, batch: list[_Delivery], worker_ctx: Any, result: Any, exc_info: Any
    ) -> tuple[Any, Any]:
        several_failed = exc_info is not None and sum(len(delivery.events) for delivery in batch) > 1
        for delivery in batch:
            if several_failed:
                self._one_by_one.extend(_split(delivery))
            else:
                self.handle_message_processed(delivery.message, result, exc_info)
        self._busy = False
        self._start_next_batch()
        return result, exc_info


def _split(delivery: _Delivery) -> list[_Delivery]:
    """Return one delivery for each event."""
    if len(delivery.events) == 1:
        return [delivery]
    return [_Delivery(event, [event.payload]) for event in Bundle(*delivery).events]


batch_handler = BatchHandler.decorator
