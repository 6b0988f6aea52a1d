"""Receives messages that hold several events: each event is acked, retried or parked alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from nameko_mesh.amqp.consumer import DrainingConsumer
from nameko_mesh.events.schema import MAX_EVENTS_PER_MESSAGE

EventJson = Mapping[str, Any]
"""A decoded envelope, as it arrives from the broker (events.schema.Envelope)."""


class BundledEvent:
    """Presents one event of a bundle as if it had arrived in its own message."""

    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self, bundle: Bundle, event: EventJson) -> None:
        self.bundle = bundle
        self.payload = event
        self.headers = dict(bundle.message.headers)
        self.properties = {**bundle.message.properties, "message_id": str(event.get("event_id", ""))}

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.payload)


class Bundle:
    """A message with several events. The message is settled when all its events are settled.

    The message is requeued when at least one of its events must be requeued. `handle_next` is called with the
    second event when the first is settled, and so on. Example: of three events the second is parked. The
    message is acked after the third, because parking has acked the second.
    """

    def __init__(
        self,
        message: Any,
        events: Sequence[EventJson],
        handle_next: Callable[[BundledEvent], None] | None = None,
    ) -> None:
        self.message = message
        self.events = [BundledEvent(self, event) for event in events]
        self.must_requeue = False
        self._settled = 0
        self._handle_next = handle_next

    def settle_event(self, *, requeue: bool) -> bool:
        """Settle the next event. Return True when it was the last."""
        self.must_requeue = self.must_requeue or requeue
        self._settled += 1
        if self._settled == len(self.events):
            return True
        if self._handle_next is not None:
            self._handle_next(self.events[self._settled])
        return False


class BundleConsumer(DrainingConsumer):
    """A consumer whose methods accept a BundledEvent in place of a message."""

    def ack_message(self, message: Any) -> None:
        if isinstance(message, BundledEvent):
            self._settle_event(message, requeue=False)
        else:
            super().ack_message(message)

    def requeue_message(self, message: Any) -> None:
        if isinstance(message, BundledEvent):
            self._settle_event(message, requeue=True)
        else:
            super().requeue_message(message)

    def _settle_event(self, event: BundledEvent, *, requeue: bool) -> None:
        bundle = event.bundle
        if bundle.settle_event(requeue=requeue):
            settle = super().requeue_message if bundle.must_requeue else super().ack_message
            settle(bundle.message)


def events_of(body: Any) -> Sequence[EventJson] | None:
    """Return the events of a decoded body, which is one event or a list of events.

    Return None for any other body, and for more events than a relay puts into one message.
    """
    if isinstance(body, dict):
        return [body]
    if not isinstance(body, list) or not 1 <= len(body) <= MAX_EVENTS_PER_MESSAGE:
        return None
    return body if all(isinstance(event, dict) for event in body) else None
