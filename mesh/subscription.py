"""Event handlers that lose nothing: an event whose handler failed comes back, after a pause.

Stock Nameko acks an event even when its handler raised, and `requeue_on_error` is a hot loop.

    @event_handler("orders", "order_confirmed")
    def on_order_confirmed(self, event): ...      # the queue is named after this method: keep it
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import eventlet
from nameko import events as stock
from nameko.events import BROADCAST, SERVICE_POOL

from mesh.context import validated_context
from mesh.draining import DRAIN_SECONDS, DrainingConsumer

__all__ = ["BROADCAST", "SERVICE_POOL", "event_handler"]

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0


class EventHandler(stock.EventHandler):
    consumer_cls = DrainingConsumer

    def stop(self) -> None:
        super().stop()
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def handle_message(self, body: Any, message: Any) -> None:
        if not isinstance(body, Mapping):
            log.error("dropped a message that is no event from %s", self.queue.name)
            self.consumer.ack_message(message)
            return
        message.headers = validated_context(message.headers)
        super().handle_message(body, message)

    def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
        if exc_info is None:
            self.consumer.ack_message(message)
        else:
            # The worker is free again; only this message, and its place in the prefetch, waits.
            self.container.spawn_managed_thread(
                partial(self._give_back, message), identifier=f"retry {self.queue.name}"
            )

    def _give_back(self, message: Any) -> None:
        eventlet.sleep(PAUSE_SECONDS)
        self.consumer.requeue_message(message)


event_handler = EventHandler.decorator
