"""Messages that could not be handled: given again later, or parked where a person finds them.

    <queue>.retry   held by the broker, which gives them back to <queue> when their pause is over
    <queue>.dead    parked with reason, handler and time, until somebody replays or drops them

Both are quorum queues, and the way back from `.retry` is confirmed: no message is lost on it. A pause
ends no sooner than that of the message before, which is why pauses are short.
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
DELIVERIES = "x-delivery-count"
"""The broker's: how often it has given the message out before."""
LIVES_LOST = "x-lives-lost"
REASON = "x-reason"
HANDLER = "x-handler"
PARKED_AT = "x-parked-at"
CONFIRM_SECONDS = 5.0
_LONGEST_REASON = 1000
_NOT_PASSED_ON = ("x-death", DELIVERIES, "compression")  # kombu has undone the compression
_BROKERS_OWN_PREFIXES = ("x-first-death-", "x-last-death-")
_KEPT = ("message_id", "correlation_id", "reply_to")


def without_history(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers less what the broker has added: it reads them again, and takes them for its own."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _NOT_PASSED_ON and not name.startswith(_BROKERS_OWN_PREFIXES)
    }


def body_of(message: Any) -> bytes:
    """The body as it came: py-amqp makes text of one whose encoding it knows, and of an empty one."""
    body = message.body
    if not isinstance(body, str):
        return bytes(body)
    try:
        return body.encode(message.content_encoding or "utf-8")
    except (LookupError, UnicodeError):
        return body.encode("utf-8", "surrogatepass")


def count_in(headers: Mapping[str, Any], name: str) -> int:
    """A counter that we have put into a header; anybody may have put something else there."""
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class DeadLetters:
    """The queues beside one queue. A message goes on as it came, byte for byte.

    Whoever calls acknowledges the message afterwards: it may then be there twice, never not at all.
    Every method raises what the broker, or the lack of one, raises, within CONFIRM_SECONDS.
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
                "x-overflow": "reject-publish",  # which that strategy demands
            },
        )
        self._retries = retries
        self._publisher = Publisher(required("AMQP_URI"), mandatory=True, retry=False, **broker_options())

    def declare(self, channel: Any) -> None:
        for queue in (self.dead, self.retry) if self._retries else (self.dead,):
            queue.bind(channel).declare()

    def park(self, message: Any, reason: str, handler: str) -> None:
        log.error("parked in %s: %s", self.dead.name, reason)
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        headers = {REASON: reason[:_LONGEST_REASON], HANDLER: handler, PARKED_AT: moment}
        self._send(message, routing_key=self.dead.name, headers=headers)

    def give_later(self, message: Any, seconds: float, reason: str, attempts: int) -> None:
        """Deliver it again after a pause, with the number of attempts that have failed."""
        headers = {ATTEMPTS: attempts, REASON: reason[:_LONGEST_REASON]}
        self._send(message, routing_key=self.retry.name, headers=headers, expiration=max(seconds, 0.001))

    def give_again(self, message: Any, *, way: Mapping[str, str] | None = None, **headers: Any) -> None:
        """Put it to the end of its queue, as a new message: the broker has never delivered it.

        `way` is the exchange and routing key that lead there, where these matter to the consumer.
        """
        seconds = _seconds(message.properties.get("expiration"))
        self._send(message, headers=headers, expiration=seconds, **(way or {"routing_key": self.queue}))

    def _send(self, message: Any, *, headers: Mapping[str, Any], **properties: Any) -> None:
        kept = {name: message.properties[name] for name in _KEPT if message.properties.get(name)}
        self._publisher.publish(
            body_of(message),
            headers={**without_history(message.headers), **headers},
            content_type=message.content_type or "application/octet-stream",
            content_encoding=message.content_encoding or "binary",
            transport_options={"max_retries": 0, "confirm_timeout": CONFIRM_SECONDS},
            **kept,
            **properties,
        )


def _seconds(expiration: Any) -> float | None:
    """AMQP's `expiration` is milliseconds, as text."""
    return int(expiration) / 1000 if isinstance(expiration, str) and expiration.isdigit() else None
