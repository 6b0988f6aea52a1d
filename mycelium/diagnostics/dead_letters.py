"""The messages that could not be handled: seen, replayed, dropped.

Each queue of a service has queues beside it for them, `.retry` and `.dead`; see `amqp.dead_letters`.
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
from nameko.rpc import Rpc

from mycelium.runner.process_plan import SERVICES
from nameko_mesh.amqp.dead_letters import (
    ATTEMPTS,
    HANDLER,
    LIVES_LOST,
    PARKED_AT,
    REASON,
    body_of,
    without_history,
)

CONNECT_SECONDS = 5
_OURS = (ATTEMPTS, HANDLER, LIVES_LOST, PARKED_AT, REASON)
_RPC = "rpc-"


class NoSuchQueue(Exception):
    """No service has a queue of that name."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages a queue holds, and how many of it are on their way around it.

    `waiting` does not count what a consumer has in hand.
    """

    queue: str
    waiting: int
    retrying: int
    parked: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked message, and why it is there."""

    message: Any
    reason: str
    handler: str
    parked_at: str

    @classmethod
    def of(cls, message: Any) -> Parked:
        headers = message.headers
        # The broker parks what killed its process, and says so in a header of its own.
        deaths = headers.get("x-death") or [{}]
        return cls(
            message=_readable(message),
            reason=headers.get(REASON) or f"the process died of it ({deaths[0].get('reason', 'unknown')})",
            handler=headers.get(HANDLER) or str(deaths[0].get("queue", "")).rpartition("--")[2],
            parked_at=headers.get(PARKED_AT) or str(deaths[0].get("time", "")),
        )


def _readable(message: Any) -> Any:
    try:
        return message.payload
    except Exception:  # it may be parked because nobody can read it
        return repr(message.body)


def queues() -> list[str]:
    """The queues of all services, by the entrypoints in their code."""
    names = set()
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.service")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            for method, function in inspect.getmembers(kind, inspect.isfunction):
                for entrypoint in getattr(function, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                    if isinstance(entrypoint, Rpc):
                        names.add(f"{_RPC}{service}")
                    elif isinstance(entrypoint, EventHandler) and entrypoint.handler_type is not BROADCAST:
                        event = f"{entrypoint.source_service}-{entrypoint.event_type}"
                        names.add(f"evt-{event}--{service}.{method}")
    return sorted(names)


class ParkedMessages:
    """The queues of the services on one broker, and those beside them."""

    def __init__(self, amqp_uri: str) -> None:
        self._uri = amqp_uri

    def counts(self) -> list[Counts]:
        return [self._counts(name) for name in queues()]

    def _counts(self, name: str) -> Counts:
        waiting, consumers = self._look(name)
        return Counts(name, waiting, self._look(f"{name}.retry")[0], self._look(f"{name}.dead")[0], consumers)

    def _look(self, name: str) -> tuple[int, int]:
        """Its messages and its consumers."""
        with self._channel() as channel:
            try:
                found = Queue(name, channel=channel, no_declare=True).queue_declare(passive=True)
            except NotFound:
                return 0, 0  # its service has never started here
            return int(found.message_count), int(found.consumer_count)

    def show(self, name: str, limit: int) -> list[Parked]:
        """Look at the oldest; they stay where they are."""
        with self._channel() as channel:  # closing it gives back what was taken and not acknowledged
            return [Parked.of(message) for message in self._take(name, channel, limit)]

    def replay(self, name: str) -> int:
        """Give all that are parked now to their handler again. Returns how many."""
        with self._channel() as channel:
            parked, _ = self._look(f"{_checked(name)}.dead")
            replayed = 0
            for message in self._take(name, channel, parked):
                headers = {k: v for k, v in without_history(message.headers).items() if k not in _OURS}
                # Confirmed before the parked one is let go: it may come twice, never not at all.
                Producer(channel).publish(
                    body_of(message),
                    content_type=message.content_type or "application/octet-stream",
                    content_encoding=message.content_encoding or "binary",
                    headers=headers,
                    mandatory=True,
                    **_way_to(name, message),
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
        raise NoSuchQueue(f"no service has a queue {name!r}: mycelium dlq list shows them")
    return name


def _dead(name: str, channel: Any) -> Queue:
    return Queue(f"{name}.dead", channel=channel, no_declare=True)


def _way_to(name: str, message: Any) -> dict[str, str]:
    """A call is told by its routing key, an event by its queue."""
    if name.startswith(_RPC):
        return {"exchange": "nameko-rpc", "routing_key": str(message.headers.get(HANDLER))}
    return {"exchange": "", "routing_key": name}
