"""Inspect, replay and drop messages that no handler could process.

Each queue of a service has two queues beside it: `.retry` and `.dead`. See `nameko_mesh.amqp.dead_letters`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from amqp.exceptions import NotFound
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Producer
from nameko.events import BROADCAST, EventHandler
from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR
from nameko.rpc import Rpc

from mycelium.runner.process_plan import SERVICES
from nameko_mesh.amqp.dead_letters import (
    ATTEMPTS,
    CRASHES,
    HANDLER,
    PARKED_AT,
    REASON,
    raw_body,
    without_broker_headers,
)

BROKER_TIMEOUT_SECONDS = 5
_PARKING_HEADERS = (ATTEMPTS, HANDLER, CRASHES, PARKED_AT, REASON)
_RPC_PREFIX = "rpc-"


class UnknownQueue(Exception):
    """No service has a queue of that name."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Messages of a queue, and of the retry and dead queues beside it.

    `waiting` leaves out messages that a consumer has received and not acknowledged.
    """

    queue: str
    waiting: int
    retrying: int
    parked: int
    consumers: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A parked message and the error that parked it."""

    message: Any
    reason: str
    handler: str
    parked_at: str

    @classmethod
    def from_message(cls, message: Any) -> DeadLetter:
        headers = message.headers
        # The broker itself parks a message that killed its consumers, and records that in x-death.
        death = (headers.get("x-death") or [{}])[0]
        return cls(
            message=_readable(message),
            reason=headers.get(REASON) or f"the process died of it ({death.get('reason', 'unknown')})",
            handler=headers.get(HANDLER) or str(death.get("queue", "")).rpartition("--")[2],
            parked_at=headers.get(PARKED_AT) or str(death.get("time", "")),
        )


def _readable(message: Any) -> Any:
    """Return the decoded payload, or the raw body because an unreadable body may be why it is parked."""
    try:
        return message.payload
    except Exception:
        return repr(message.body)


def queue_names() -> list[str]:
    """Return the queues of all services, derived from the entrypoints in their code."""
    names = set()
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.service")
        for method, entrypoint in _entrypoints(module):
            if isinstance(entrypoint, Rpc):
                names.add(f"{_RPC_PREFIX}{service}")
            elif isinstance(entrypoint, EventHandler) and entrypoint.handler_type is not BROADCAST:
                event = f"{entrypoint.source_service}-{entrypoint.event_type}"
                names.add(f"evt-{event}--{service}.{method}")
    return sorted(names)


def _entrypoints(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield each method name with each of its entrypoints."""
    for _, service_class in inspect.getmembers(module, inspect.isclass):
        for method, function in inspect.getmembers(service_class, inspect.isfunction):
            for entrypoint in getattr(function, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                yield method, entrypoint


class DeadLetterQueues:
    """The services' queues on a broker, with the retry and dead queues beside them.

    Methods that take a queue's name raise UnknownQueue when no service has that queue.
    """

    def __init__(self, amqp_uri: str) -> None:
        self._uri = amqp_uri

    def counts(self) -> list[QueueCounts]:
        return [self._counts(name) for name in queue_names()]

    def _counts(self, name: str) -> QueueCounts:
        waiting, consumers = self._declared_counts(name)
        retrying, _ = self._declared_counts(f"{name}.retry")
        parked, _ = self._declared_counts(f"{name}.dead")
        return QueueCounts(name, waiting, retrying, parked, consumers)

    def _declared_counts(self, name: str) -> tuple[int, int]:
        """Return the queue's messages and consumers; zeros when its service has never run here."""
        with self._channel() as channel:
            try:
                declared = Queue(name, channel=channel, no_declare=True).queue_declare(passive=True)
            except NotFound:
                return 0, 0
            return int(declared.message_count), int(declared.consumer_count)

    def show(self, name: str, limit: int) -> list[DeadLetter]:
        """Return the oldest parked messages. They stay parked."""
        with self._channel() as channel:  # closing the channel requeues messages that are not acknowledged
            return [DeadLetter.from_message(message) for message in self._take(name, channel, limit)]

    def replay(self, name: str) -> int:
        """Send the messages that are parked now to their handlers again. Return their number."""
        with self._channel() as channel:
            parked, _ = self._declared_counts(f"{_checked(name)}.dead")
            replayed = 0
            for message in self._take(name, channel, parked):
                # Publish waits for the confirm before the ack: a crash repeats a message, never loses it.
                _publish_again(name, message, channel)
                message.ack()
                replayed += 1
            return replayed

    def drop(self, name: str) -> int:
        """Delete the parked messages. Return their number."""
        with self._channel() as channel:
            return int(_dead_queue(_checked(name), channel).purge() or 0)

    def _take(self, name: str, channel: Any, limit: int) -> Iterator[Any]:
        queue = _dead_queue(_checked(name), channel)
        for _ in range(limit):
            message = queue.get()
            if message is None:
                return
            yield message

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        options = {"confirm_publish": True, "confirm_timeout": BROKER_TIMEOUT_SECONDS}
        timeout = BROKER_TIMEOUT_SECONDS
        with Connection(self._uri, connect_timeout=timeout, transport_options=options) as connection:
            yield connection.channel()


def _checked(name: str) -> str:
    if name not in queue_names():
        raise UnknownQueue(f"no service has a queue {name!r}: mycelium dlq list shows them")
    return name


def _dead_queue(name: str, channel: Any) -> Queue:
    return Queue(f"{name}.dead", channel=channel, no_declare=True)


def _publish_again(name: str, message: Any, channel: Any) -> None:
    headers = without_broker_headers(message.headers)
    Producer(channel).publish(
        raw_body(message),
        content_type=message.content_type or "application/octet-stream",
        content_encoding=message.content_encoding or "binary",
        headers={key: value for key, value in headers.items() if key not in _PARKING_HEADERS},
        mandatory=True,
        **_route(name, message),
    )


def _route(name: str, message: Any) -> dict[str, str]:
    """Return where to publish: a call by its method's routing key, an event straight to its queue."""
    if name.startswith(_RPC_PREFIX):
        return {"exchange": "nameko-rpc", "routing_key": str(message.headers.get(HANDLER))}
    return {"exchange": "", "routing_key": name}
