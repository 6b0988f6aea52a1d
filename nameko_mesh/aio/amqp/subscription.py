"""Receives the events of a Nameko service, and subscribes again after each interruption."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any
from uuid import uuid4

import orjson
from pamqp.commands import Basic, Exchange, Queue

from nameko_mesh.aio.amqp.channel import Channel
from nameko_mesh.aio.amqp.decoder import Message, ProtocolError
from nameko_mesh.aio.amqp.reconnecting import (
    CONNECT_TIMEOUT_SECONDS,
    STABLE_SECONDS,
    ReconnectingConnection,
    reconnect_delay,
)
from nameko_mesh.amqp import frames
from nameko_mesh.errors import Unavailable

MAX_QUEUED_EVENTS = 10_000
"""The broker keeps this many events for a slow subscriber. Beyond that it drops the oldest."""

Callback = Callable[[Any], Awaitable[None] | None]

log = logging.getLogger(__name__)


class Subscription:
    """Passes events to `callback`, plain or async, one at a time in the order of their arrival.

    Use it for state of this process, such as a cache or a browser's stream, not for work that must be done.
    The queue lives as long as the connection, so events that are published during an interruption are missed.

    `on_flowing` is called when events begin to flow, at first and after each interruption. Read the state
    then. An error of the callback is logged, and the next event follows. A callback that hangs blocks this
    subscription alone.
    """

    def __init__(
        self,
        reconnecting: ReconnectingConnection,
        name: str,
        source: str,
        types: Sequence[str],
        callback: Callback,
        *,
        on_flowing: Callable[[], None] | None,
        prefetch: int,
        ended: Callable[[Subscription], None],
    ) -> None:
        self.source = source
        self._reconnecting = reconnecting
        self._name = name
        self._types = tuple(types)
        self._callback = callback
        self._on_flowing = on_flowing
        self._prefetch = prefetch
        self._ended = ended
        self._bound = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"{self._name}: {self.source}.events"
        )

    async def bound(self) -> None:
        """Wait until events flow. The caller bounds the wait."""
        await self._bound.wait()

    async def close(self) -> None:
        """Stop passing events. A callback that is running is cancelled."""
        self._ended(self)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            connection = await self._reconnecting.ready()
            began = loop.time()
            channel: Channel | None = None
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    channel = await connection.open_channel()
                    inbox = await self._bind(channel)
                self._bound.set()
                self._notify_flowing()
                await self._consume(channel, inbox)
            except (Unavailable, TimeoutError) as error:
                log.warning(
                    "%s: the events of %s are interrupted: %s", self._name, self.source, error or "timeout"
                )
            finally:
                self._bound.clear()
                if channel is not None:
                    channel.close(Unavailable("the subscription ended"))
            failures = 0 if loop.time() - began > STABLE_SECONDS else failures + 1
            await asyncio.sleep(reconnect_delay(failures))

    async def _bind(self, channel: Channel) -> asyncio.Queue[Message | None]:
        """Declare the queue as Nameko does, and consume it into the returned inbox.

        The inbox gets None when the channel has ended. Each subscription has a channel of its own, so that a
        source whose exchange has other properties fails alone. The queue gets a new name each time, because
        the queue of a dead connection stays locked for a while.
        """
        exchange = f"{self.source}.events"
        queue = f"evt-{self.source}-{self._name}-{uuid4()}"
        inbox: asyncio.Queue[Message | None] = asyncio.Queue()

        def on_message(message: Message) -> None:
            if inbox.qsize() >= self._prefetch:
                raise ProtocolError(f"more than {self._prefetch} unacknowledged events")
            inbox.put_nowait(message)

        await channel.request(
            Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True), Exchange.DeclareOk
        )
        declare = Queue.Declare(
            queue=queue, exclusive=True, auto_delete=True, arguments={"x-max-length": MAX_QUEUED_EVENTS}
        )
        await channel.request(declare, Queue.DeclareOk)
        for event_type in self._types:
            await channel.request(
                Queue.Bind(queue=queue, exchange=exchange, routing_key=event_type), Queue.BindOk
            )
        await channel.request(Basic.Qos(prefetch_count=self._prefetch), Basic.QosOk)
        channel.on_message = on_message
        await channel.request(Basic.Consume(queue=queue, exclusive=True), Basic.ConsumeOk)
        channel.closed.add_done_callback(lambda closed: inbox.put_nowait(None))
        return inbox

    async def _consume(self, channel: Channel, inbox: asyncio.Queue[Message | None]) -> None:
        """Run the callback for each event, until the channel ends. Then raises Unavailable.

        An event is acknowledged whatever the callback does: acknowledgements only limit the prefetch.
        """
        while (message := await inbox.get()) is not None:
            try:
                outcome = self._callback(orjson.loads(message.body))
                if isawaitable(outcome):
                    await outcome
            except Exception:
                log.exception("%s: the callback for an event of %s failed", self._name, self.source)
            if not channel.closed.done():
                channel.write(frames.ack(channel.number, message.delivery_tag))
        raise Unavailable(str(channel.closed.result()))

    def _notify_flowing(self) -> None:
        try:
            if self._on_flowing is not None:
                self._on_flowing()
        except Exception:
            log.exception("%s: on_flowing for the events of %s failed", self._name, self.source)
