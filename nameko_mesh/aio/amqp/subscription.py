"""Events of Nameko services, as they happen."""

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
    MAX_BACKOFF_SECONDS,
    ReconnectingConnection,
    backoff,
)
from nameko_mesh.amqp import frames
from nameko_mesh.errors import Unavailable

MAX_QUEUED_EVENTS = 10_000
"""Events that the broker keeps for a subscriber who does not keep up; then the oldest are dropped."""

Callback = Callable[[Any], Awaitable[None] | None]

log = logging.getLogger(__name__)


class Subscription:
    """Hands events to `callback`, plain or async, one after the other in the order of their arrival.

    For what lives in this process (a browser's stream, a cache), not for work that must be done: the queue is
    this connection's own, so what is published while there is none is missed. `on_flowing` is called
    when events begin to flow, at first and after each such time: read the state then. A callback that
    raises is logged and the next event follows; one that hangs holds up this subscription alone.
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
        """Waits until events arrive; the caller bounds the wait."""
        await self._bound.wait()

    async def close(self) -> None:
        """No event is handed over after this; a callback that is running is cancelled."""
        self._ended(self)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        attempt = 0
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
                self._tell_flowing()
                await self._consume(channel, inbox)
            except (Unavailable, TimeoutError) as error:
                log.warning("%s: no events of %s for now: %s", self._name, self.source, error or "no answer")
            finally:
                self._bound.clear()
                if channel is not None:
                    channel.close(Unavailable("the subscription ended"))
            attempt = 0 if loop.time() - began > MAX_BACKOFF_SECONDS else attempt + 1
            await asyncio.sleep(backoff(attempt))

    async def _bind(self, channel: Channel) -> asyncio.Queue[Message | None]:
        """Declares as Nameko does and begins to consume. The inbox gets None when the channel has ended.

        A channel for each subscription, so that a source whose exchange is declared in another way fails
        alone; a new queue name each time, because a dead connection's queue stays locked for a while.
        """
        exchange = f"{self.source}.events"
        queue = f"evt-{self.source}-{self._name}-{uuid4()}"
        inbox: asyncio.Queue[Message | None] = asyncio.Queue()

        def received(message: Message) -> None:
            if inbox.qsize() >= self._prefetch:
                raise ProtocolError(f"more than {self._prefetch} events unacknowledged")
            inbox.put_nowait(message)

        await channel.request(
            Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True), Exchange.DeclareOk
        )
        declare = Queue.Declare(
            queue=queue, exclusive=True, auto_delete=True, arguments={"x-max-length": MAX_QUEUED_EVENTS}
        )
        await channel.request(declare, Queue.DeclareOk)
        for kind in self._types:
            await channel.request(Queue.Bind(queue=queue, exchange=exchange, routing_key=kind), Queue.BindOk)
        await channel.request(Basic.Qos(prefetch_count=self._prefetch), Basic.QosOk)
        channel.on_message = received
        await channel.request(Basic.Consume(queue=queue, exclusive=True), Basic.ConsumeOk)
        channel.closed.add_done_callback(lambda closed: inbox.put_nowait(None))
        return inbox

    async def _consume(self, channel: Channel, inbox: asyncio.Queue[Message | None]) -> None:
        """Ends with Unavailable, when the channel has. Acknowledgements only bound what is under way."""
        while (message := await inbox.get()) is not None:
            try:
                handed = self._callback(orjson.loads(message.body))
                if isawaitable(handed):
                    await handed
            except Exception:
                log.exception("%s: an event of %s was not handled", self._name, self.source)
            if not channel.closed.done():
                channel.connection.write(frames.ack(channel.number, message.delivery_tag))
        raise Unavailable(str(channel.closed.result()))

    def _tell_flowing(self) -> None:
        try:
            if self._on_flowing is not None:
                self._on_flowing()
        except Exception:
            log.exception("%s: what begins with the events of %s failed", self._name, self.source)
