"""A consumer that finishes its work before it closes, and the start of workers for its messages.

Nameko's consumer closes its channel about a second after SIGTERM, while workers still run. The broker then
redelivers their messages to another instance, which executes them again. DrainingConsumer stops taking
messages, waits until each message in flight is acked or requeued, and closes afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from typing import Any

from nameko.exceptions import ContainerBeingKilled

from nameko_mesh.amqp.consumer_probe import ProbedConsumer

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
"""Longest drain. It is shorter than the 30 s after which a supervisor kills the process."""
REQUEUE_DELAY_SECONDS = 1.0
_POLL_SECONDS = 0.5


class DrainingConsumer(ProbedConsumer):
    """A consumer with three hooks for its extension.

    `declare_extra(channel)` runs after each connect. `on_undecodable(message, error)` must settle a message
    whose body cannot be decoded. `drained` is set when the consumer has ended.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drained = Event()
        self.declare_extra: Callable[[Any], None] = lambda channel: None
        self.on_undecodable: Callable[[Any, Exception], None] = lambda message, _: self.ack_message(message)
        self._in_flight: set[tuple[int, int]] = set()

    @property
    def _queue_names(self) -> str:
        return ", ".join(queue.name for queue in self.queues)

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        self.declare_extra(channel)
        return super().get_consumers(consumer_cls, channel)

    def on_message(self, body: Any, message: Any) -> None:
        if not self.should_stop:
            self._in_flight.add(_key(message))
        super().on_message(body, message)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._in_flight.add(_key(message))
        self.on_undecodable(message, exc)

    def ack_message(self, message: Any) -> None:
        try:
            super().ack_message(message)
        except OSError:
            log.warning(
                "%s: an ack was lost with the connection, the broker redelivers the message",
                self._queue_names,
            )
        finally:
            self._in_flight.discard(_key(message))

    def requeue_message(self, message: Any) -> None:
        try:
            super().requeue_message(message)
        except OSError:
            log.debug("%s: the broker requeues a message of the lost connection", self._queue_names)
        finally:
            self._in_flight.discard(_key(message))

    def settle(self, message: Any, action: Callable[[], None]) -> None:
        """Run the action and ack the message; when the action fails, requeue the message after a delay."""
        try:
            action()
        except Exception:
            log.exception("%s: could not settle a message, requeueing it", self._queue_names)
            time.sleep(REQUEUE_DELAY_SECONDS)
            self.requeue_message(message)
        else:
            self.ack_message(message)

    def run(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().run(*args, **kwargs)
        finally:
            self.drained.set()

    def consume(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Consume as kombu's ConsumerMixin does, and drain before the channel closes."""
        self._in_flight.clear()  # the broker redelivers the messages of the previous connection
        with self.consumer_context() as (connection, _, consumers):
            while not self.should_stop:
                yield from self._wait_for_messages(connection)
            for consumer in consumers:
                consumer.cancel()
            give_up_at = time.monotonic() + DRAIN_SECONDS
            while self._in_flight and time.monotonic() < give_up_at:
                yield from self._wait_for_messages(connection)

    def _wait_for_messages(self, connection: Any) -> Iterator[None]:
        try:
            connection.drain_events(timeout=_POLL_SECONDS)
        except TimeoutError:
            connection.heartbeat_check()
        else:
            yield


def _key(message: Any) -> tuple[int, int]:
    return id(message.channel), message.delivery_tag


class DrainingExtension:
    """Mixin for Nameko extensions with a DrainingConsumer: RpcConsumer and EventHandler."""

    consumer_cls = DrainingConsumer
    consumer: DrainingConsumer
    container: Any
    queue: Any

    def stop(self) -> None:
        super().stop()  # type: ignore[misc]
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def settle_in_background(self, message: Any, action: Callable[[], None]) -> None:
        """Run `consumer.settle` in a green thread, because neither consumer nor worker may wait for it."""
        settle = partial(self.consumer.settle, message, action)
        self.container.spawn_managed_thread(settle, identifier=f"settling a message of {self.queue.name}")


def start_worker(
    container: Any, entrypoint: Any, args: Any, kwargs: Any, *, on_killed: Callable[[], None], **options: Any
) -> None:
    """Start a worker without blocking the consumer.

    Nameko's `spawn_worker` blocks while all workers are busy. Only then a green thread waits in place of the
    consumer, which has to send heartbeats. `on_killed` runs when the container is being killed.

    Gain: a call takes 23 µs in place of 37 with a green thread for each (`python -m bench.tricks.workers`).
    Delete the branch when Nameko has a `spawn_worker` that does not block. Example: with 10 workers, 10 calls
    start at once, and the eleventh waits in a green thread of its own.
    """

    def spawn() -> None:
        try:
            container.spawn_worker(entrypoint, args, kwargs, **options)
        except ContainerBeingKilled:
            on_killed()

    pool = container._worker_pool
    if pool.free() > 0 and not pool.waiting():
        spawn()
    else:
        container.spawn_managed_thread(spawn, identifier=f"{entrypoint.method_name} waits for a worker")
