"""Messages with several events in them, from the side of who receives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from nameko_mesh.amqp.consumer import DrainingConsumer
from nameko_mesh.events.schema import MAX_EVENTS_PER_MESSAGE

Event = Mapping[str, Any]


class BundledEvent:
    """One event of a bundle, in place of the message of its own that it has not come in."""

    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self, bundle: Bundle, event: Event) -> None:
        self.bundle = bundle
        self.payload = event
        self.headers = dict(bundle.message.headers)
        self.properties = {**bundle.message.properties, "message_id": str(event.get("event_id", ""))}

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.payload)


class Bundle:
    """A message that is settled when all of its shares are, and goes back when one of them has to.

    `follow` is called with each share but the first when the one before is settled.
    """

    def __init__(
        self, message: Any, events: Sequence[Event], follow: Callable[[BundledEvent], None] | None = None
    ) -> None:
        self.message = message
        self.shares = [BundledEvent(self, event) for event in events]
        self.goes_back = False
        self._settled = 0
        self._follow = follow

    def settle(self, *, goes_back: bool) -> bool:
        """One of its shares. Whether that was the last."""
        self.goes_back = self.goes_back or goes_back
        self._settled += 1
        if self._settled == len(self.shares):
            return True
        if self._follow is not None:
            self._follow(self.shares[self._settled])
        return False


class BundleConsumer(DrainingConsumer):
    """Takes a share for a message."""

    def ack_message(self, message: Any) -> None:
        if isinstance(message, BundledEvent):
            self._settle_share(message, goes_back=False)
        else:
            super().ack_message(message)

    def requeue_message(self, message: Any) -> None:
        if isinstance(message, BundledEvent):
            self._settle_share(message, goes_back=True)
        else:
            super().requeue_message(message)

    def _settle_share(self, share: BundledEvent, *, goes_back: bool) -> None:
        bundle = share.bundle
        if bundle.settle(goes_back=goes_back):
            settle = super().requeue_message if bundle.goes_back else super().ack_message
            settle(bundle.message)


def events_in(body: Any) -> Sequence[Event] | None:
    """Of what came from the wire: one event or a list of them; None when it is neither, or of more events
    than a relay would send."""
    if isinstance(body, dict):
        return [body]
    if not isinstance(body, list) or not 1 <= len(body) <= MAX_EVENTS_PER_MESSAGE:
        return None
    return body if all(isinstance(event, dict) for event in body) else None
