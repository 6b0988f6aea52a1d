"""The events that were parked because their handler always failed: seen, replayed, dropped.

Each event handler has a queue of its own for them, `<queue>.dead`; see mesh.subscription.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Producer
from nameko.events import BROADCAST, EventHandler
from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR

from mycelium.plan import SERVICES

CONNECT_SECONDS = 5
_OWN_HEADERS = ("x-reason", "x-handler", "x-parked-at", "x-death", "x-delivery-count")
_OWN_PREFIXES = ("x-first-death-", "x-last-death-")


class NoSuchQueue(Exception):
    """No handler of the services has a queue of that name."""


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked event, and why it is there."""

    event: Any
    reason: str
    handler: str
    parked_at: str

    @classmethod
    def of(cls, message: Any) -> Parked:
        headers = message.headers
        # The broker parks what killed its process, and says so in a header of its own.
        deaths = headers.get("x-death") or [{}]
        return cls(
            event=message.payload,
            reason=headers.get("x-reason")
            or f"the process died of it ({deaths[0].get('reason', 'unknown')})",
            handler=headers.get("x-handler") or str(deaths[0].get("queue", "")).rpartition("--")[2],
            parked_at=headers.get("x-parked-at") or str(deaths[0].get("time", "")),
        )


def queues() -> list[str]:
    """The event queues of all services, by the handlers in their code."""
    names = []
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.service")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            for method, function in inspect.getmembers(kind, inspect.isfunction):
                for handler in getattr(function, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                    if isinstance(handler, EventHandler) and handler.handler_type is not BROADCAST:
                        event = f"{handler.source_service}-{handler.event_type}"
                        names.append(f"evt-{event}--{service}.{method}")
    return sorted(names)


class ParkedEvents:
    """The queues of the parked on one broker."""

    def __init__(self, amqp_uri: str) -> None:
        self._uri = amqp_uri

    def counts(self) -> dict[str, int]:
        """How many are parked, by the queue that they came from."""
        return {name: self._count(name) for name in queues()}

    def _count(self, name: str) -> int:
        with self._channel() as channel:
            try:
                return int(_dead(name, channel).queue_declare(passive=True).message_count)
            except NotFound:
                return 0  # its service has never started here

    def show(self, name: str, limit: int) -> list[Parked]:
        """Look at the oldest; they stay where they are."""
        with self._channel() as channel:  # closing it gives back what was taken and not acknowledged
            return [Parked.of(message) for message in self._take(name, channel, limit)]

    def replay(self, name: str) -> int:
        """Give all that are parked now to their handler again. Returns how many."""
        with self._channel() as channel:
            waiting = self._count(_checked(name))
            replayed = 0
            for message in self._take(name, channel, waiting):
                headers = {k: v for k, v in message.headers.items() if not _is_own(k)}
                # Confirmed before the parked one is let go: an event may come twice, never not at all.
                Producer(channel).publish(
                    message.payload, routing_key=name, serializer="json", headers=headers, mandatory=True
                )
                message.ack()
                replayed += 1
            return replayed

    def drop(self, name: str) -> int:
        """Forget all that are parked. Returns how many."""
        with self._channel() as channel:
            return int(_dead(_checked(name), channel).purge() or 0)

    def _take(self, name: str, channel: Any, limit: int) -> Iterator[Any]:
        queue = _dead(_checked(name), channel)
        for _ in range(limit):
            message = queue.get()
            if message is None:
                return
            yield message

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        options = {"confirm_publish": True, "confirm_timeout": CONNECT_SECONDS}
        with Connection(self._uri, connect_timeout=CONNECT_SECONDS, transport_options=options) as connection:
            yield connection.channel()


def _checked(name: str) -> str:
    if name not in queues():
        raise NoSuchQueue(f"no handler has a queue {name!r}: mycelium dlq list shows them")
    return name


def _dead(name: str, channel: Any) -> Queue:
    return Queue(f"{name}.dead", channel=channel, no_declare=True)


def _is_own(header: str) -> bool:
    return header in _OWN_HEADERS or header.startswith(_OWN_PREFIXES)
