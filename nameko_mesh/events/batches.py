"""Event handlers that take many events in one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from nameko_mesh.events.bundle import Bundle, Event
from nameko_mesh.events.handler import EventHandler, _context
from nameko_mesh.workers import start_worker

MOST_TOGETHER = 200
"""Events that a batch handler takes at once; a message that has more of them is taken all the same."""


MOST_MESSAGES = 100
"""How many messages a batch handler takes from the broker in advance."""


class BatchHandler(EventHandler):
    """Hands over a list: all events that have come while the list before was being handled.

    Alone, an event is handed over at once. A list that fails is handed over again event by event,
    each on its own account.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"prefetch_count": MOST_MESSAGES, **kwargs})
        self._waiting: deque[tuple[Any, Sequence[Event]]] = deque()
        self._one_by_one: deque[tuple[Any, Sequence[Event]]] = deque()
        self._busy = False

    def _take(self, events: Sequence[Event], message: Any) -> None:
        self._waiting.append((message, events))
        self._hand_over()

    def _hand_over(self) -> None:
        if self._busy or not (self._waiting or self._one_by_one):
            return
        self._busy = True
        taken = [self._one_by_one.popleft()] if self._one_by_one else self._next_waiting()
        start_worker(
            self.container,
            self,
            ([event for _, events in taken for event in events],),
            {},
            context_data=_context(taken[0][0]),
            handle_result=partial(self._handled, taken),
            on_killed=partial(self._give_back, taken),
        )

    def _next_waiting(self) -> list[tuple[Any, Sequence[Event]]]:
        taken = [self._waiting.popleft()]
        room = MOST_TOGETHER - len(taken[0][1])
        while self._waiting and len(self._waiting[0][1]) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1][1])
        return taken

    def _give_back(self, taken: list[tuple[Any, Sequence[Event]]]) -> None:
        for message, _ in taken:
            self.consumer.requeue_message(message)

    def _handled(
        self,
        taken: list[tuple[Any, Sequence[Event]]],
        worker_ctx: Any,
        result: Any,
        exc_info: Any,
    ) -> tuple[Any, Any]:
        failed_together = exc_info is not None and sum(len(events) for _, events in taken) > 1
        for message, events in taken:
            if not failed_together:
                self.handle_message_processed(message, result, exc_info)
            elif len(events) == 1:
                self._one_by_one.append((message, events))
            else:
                self._one_by_one.extend((one, [one.payload]) for one in Bundle(message, events).shares)
        self._busy = False
        self._hand_over()
        return result, exc_info


batch_handler = BatchHandler.decorator
