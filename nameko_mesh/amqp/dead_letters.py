"""Messages whose handler failed: retried later, or parked for a person to inspect.

    <queue>.retry   the broker holds the message, and moves it back to <queue> when its delay ends
    <queue>.dead    parked with reason, handler and time, until a person replays or drops the message

The entrypoints choose between the two: `events.handler.EventHandler._on_failure` for events, and
`rpc.entrypoint.RpcConsumer._requeue_or_park` for requests.

Both are quorum queues, and the move back from `.retry` is confirmed, so no message is lost. A message also
waits for the messages before it in `.retry`, because the queue is a FIFO. Delays are therefore short.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kombu.entity import Queue
from nameko.amqp.publish import Publisher

from nameko_mesh.settings import broker_options, required

log = logging.getLogger(__name__)

ATTEMPTS = "x-attempts"
"""The number of failed attempts to handle the event."""
DELIVERIES = "x-delivery-count"
"""The number of earlier deliveries, which the broker counts in quorum queues."""
CRASHES = "x-lives-lost"
"""The number of processes that died while they handled the RPC request."""
REASON = "x-reason"
HANDLER = "x-handler"
PARKED_AT = "x-parked-at"
CONFIRM_TIMEOUT_SECONDS = 5.0
_MAX_REASON_LENGTH = 1000
_DROPPED_HEADERS = ("x-death", DELIVERIES, "compression")  # kombu has decompressed the body
_DROPPED_PREFIXES = ("x-first-death-", "x-last-death-")
_KEPT_PROPERTIES = ("message_id", "correlation_id", "reply_to")


def without_broker_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers without the broker's own, because the broker would take them as current."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _DROPPED_HEADERS and not name.startswith(_DROPPED_PREFIXES)
    }


def raw_body(message: Any) -> bytes:
    """Return the body as bytes. py-amqp has decoded it when its encoding is known, or when it is empty."""
    body = message.body
    if not isinstance(body, str):
        return bytes(body)
    try:
        return body.encode(message.content_encoding or "utf-8")
    except (LookupError, UnicodeError):
        return body.encode("utf-8", "surrogatepass")


def count_in(headers: Mapping[str, Any], name: str) -> int:
    """Return the counter in a header, or 0 when the header holds no positive integer."""
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class DeadLetters:
    """The retry queue and the dead-letter queue of one queue. Bodies are copied byte for byte.

    The caller acks the original message afterwards, so a crash may duplicate the message, but never loses it.
    Each method waits for a confirm, at most CONFIRM_TIMEOUT_SECONDS, and raises the broker's errors.
    """

    def __init__(self, queue: str, *, retries: bool = True) -> None:
        self.queue = queue
        self.dead = Queue(f"{queue}.dead", durable=True, queue_arguments={"x-queue-type": "quorum"})
        self.retry = Queue(
            f"{queue}.retry",
            durable=True,
            queue_arguments={
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",  # required by that strategy
            },
        )
        self._retries = retries
        self._publisher = Publisher(required("AMQP_URI"), mandatory=True, retry=False, **broker_options())

    def declare(self, channel: Any) -> None:
        for queue in (self.dead, self.retry) if self._retries else (self.dead,):
            queue.bind(channel).declare()

    def park(self, message: Any, reason: str, handler: str) -> None:
        """Move the message to the dead-letter queue; `handler` names the method that failed."""
        log.error("parked a message of %s in %s: %s", handler, self.dead.name, reason)
        parked_at = datetime.now(UTC).isoformat(timespec="seconds")
        headers = {REASON: reason[:_MAX_REASON_LENGTH], HANDLER: handler, PARKED_AT: parked_at}
        self._send(message, routing_key=self.dead.name, headers=headers)

    def retry_later(self, message: Any, seconds: float, reason: str, attempts: int) -> None:
        """Deliver the message again after a delay; `attempts` counts the failed attempts so far."""
        headers = {ATTEMPTS: attempts, REASON: reason[:_MAX_REASON_LENGTH]}
        self._send(message, routing_key=self.retry.name, headers=headers, expiration=max(seconds, 0.001))

    def requeue(self, message: Any, *, route: Mapping[str, str] | None = None, **headers: Any) -> None:
        """Publish the message again to the end of its queue, which restarts the broker's delivery count.

        `route` is the exchange and routing key, for consumers that read the routing key.
        """
        seconds = _seconds(message.properties.get("expiration"))
        self._send(message, headers=headers, expiration=seconds, **(route or {"routing_key": self.queue}))

    def _send(self, message: Any, *, headers: Mapping[str, Any], **properties: Any) -> None:
        kept = {name: message.properties[name] for name in _KEPT_PROPERTIES if message.properties.get(name)}
        self._publisher.publish(
            raw_body(message),
            headers={**without_broker_headers(message.headers), **headers},
            content_type=message.content_type or "application/octet-stream",
            content_encoding=message.content_encoding or "binary",
            transport_options={"max_retries": 0, "confirm_timeout": CONFIRM_TIMEOUT_SECONDS},
            **kept,
            **properties,
        )


def _seconds(expiration: Any) -> float | None:
    """Convert AMQP's `expiration`, which is milliseconds as text."""
    return int(expiration) / 1000 if isinstance(expiration, str) and expiration.isdigit() else None
