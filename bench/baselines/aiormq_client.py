"""The RpcClient of nameko_mesh.aio on aiormq, to measure the worth of the mesh's own AMQP client.

All parts above the broker's connection stay the same: limits, deadlines and errors. Requests are published
without confirms, and replies need no acknowledgement. Two things differ. aiormq does not report the broker's
memory alarm, so calls then wait until their deadline. pamqp cannot encode a double, so services get the
deadline in whole seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from math import ceil
from typing import Any
from uuid import uuid4

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

from bench.baselines.aiormq_link import AiormqLink, why
from nameko_mesh.aio import RpcClient
from nameko_mesh.aio.amqp.pending_calls import _result
from nameko_mesh.aio.amqp.subscription import Callback, Subscription
from nameko_mesh.errors import DeadlineExceeded, Disconnected, MeshError, UnknownService


class AiormqClient(RpcClient):
    """Sends calls over aiormq. Subscriptions keep a connection of nameko_mesh.aio."""

    def __init__(self, amqp_uri: str, *, name: str = "client", heartbeat: int = 10, **options: Any) -> None:
        super().__init__(amqp_uri, name=name, heartbeat=heartbeat, **options)
        self._uri = amqp_uri
        self._over_aiormq = _Calls(name, options.get("exchange", "nameko-rpc"), self._gate.shut)
        self._pending_calls = self._over_aiormq  # type: ignore[assignment]
        self._reconnecting = AiormqLink(amqp_uri, self._take, name=name, heartbeat=heartbeat)  # type: ignore[assignment]
        self._events: RpcClient | None = None
        self._starting: asyncio.Task[None] | None = None

    def subscribe(
        self, source: str, types: Sequence[str], callback: Callback, **options: Any
    ) -> Subscription:
        if self._events is None:
            self._events = RpcClient(self._uri, name=self.name)
            self._starting = asyncio.get_running_loop().create_task(self._events.start(wait=0))
        return self._events.subscribe(source, types, callback, **options)

    async def stop(self, *, drain: float = 5.0) -> None:
        if self._events is not None:
            await self._events.stop(drain=0)
        await super().stop(drain=drain)

    async def _take(self, channel: AbstractChannel) -> None:
        await self._over_aiormq.attach(channel)
        self._gate.open()


class _Returned:
    """A stand-in for the confirm of a message: aiormq reports a returned message to it."""

    __slots__ = ("_answer", "_service")

    def __init__(self, answer: asyncio.Future[bytes | MeshError], service: str) -> None:
        self._answer = answer
        self._service = service

    def set_exception(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_result(UnknownService(f"no queue takes messages for {self._service!r}"))


class _Calls:
    """Sends requests and matches replies, like nameko_mesh.aio.amqp.pending_calls.PendingCalls."""

    def __init__(self, name: str, exchange: str, on_shut: Callable[[str], None]) -> None:
        self._name = name
        self._exchange = exchange
        self._on_shut = on_shut
        self._pending: dict[str, asyncio.Future[bytes | MeshError]] = {}
        self._prefix = uuid4().hex[:12]
        self._numbers = count(1)

    async def attach(self, channel: AbstractChannel) -> None:
        reply_to = str(uuid4())
        queue = f"rpc.reply-{self._name}-{reply_to}"
        await channel.exchange_declare(self._exchange, exchange_type="topic", durable=True)
        await channel.queue_declare(queue, exclusive=True, auto_delete=True)
        await channel.queue_bind(queue, self._exchange, reply_to)
        await channel.basic_consume(queue, self._received, no_ack=True, exclusive=True)
        self._loop = asyncio.get_running_loop()
        self._channel, self._reply_to = channel, reply_to
        channel.closing.add_done_callback(self._detached)

    async def call(
        self,
        service: str,
        method: str,
        body: bytes,
        *,
        loop_deadline: float,
        deadline: float,
        seconds_left: float,
        context: Mapping[str, Any] | None,
    ) -> Any:
        """Send a request and return its result. Takes the same arguments as PendingCalls.call."""
        correlation_id = f"{self._prefix}{next(self._numbers):x}"
        headers: dict[str, Any] = {
            "nameko.call_id_stack": [f"{self._name}.{service}.{correlation_id}"],
            "nameko.deadline": ceil(deadline),  # pamqp encodes a float in 32 bits, which is wrong by minutes
        }
        if context:
            headers |= {f"nameko.{key}": value for key, value in context.items()}
        properties = Basic.Properties(
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers,
            delivery_mode=1,
            correlation_id=correlation_id,
            reply_to=self._reply_to,
            expiration=str(max(1, int(seconds_left * 1000))),
            message_id=correlation_id,  # or aiormq makes a UUID
        )
        channel = self._channel
        answer: asyncio.Future[bytes | MeshError] = self._loop.create_future()
        self._pending[correlation_id] = answer
        # Without confirms, aiormq reports a returned message only to an entry in these tables.
        channel.message_id_delivery_tag[correlation_id] = correlation_id
        channel.confirmations[correlation_id] = _Returned(answer, service)
        timer = self._loop.call_at(loop_deadline, self._expire, answer, service, method)
        try:
            await channel.basic_publish(
                body,
                exchange=self._exchange,
                routing_key=f"{service}.{method}",
                properties=properties,
                mandatory=True,
                wait=False,
            )
            outcome = await answer
        except (AMQPError, RuntimeError, OSError) as error:
            raise Disconnected(str(error)) from error
        finally:
            timer.cancel()
            self._pending.pop(correlation_id, None)
            channel.message_id_delivery_tag.pop(correlation_id, None)
            channel.confirmations.pop(correlation_id, None)
        if isinstance(outcome, MeshError):
            raise outcome
        return _result(outcome)

    async def _received(self, message: DeliveredMessage) -> None:
        answer = self._pending.pop(message.header.properties.correlation_id or "", None)
        if answer is not None and not answer.done():
            answer.set_result(message.body)

    def _expire(self, answer: asyncio.Future[bytes | MeshError], service: str, method: str) -> None:
        if not answer.done():
            answer.set_result(DeadlineExceeded(f"{service}.{method}: no answer in time"))

    def _detached(self, closed: asyncio.Future[Any]) -> None:
        reason = why(closed)
        self._on_shut(reason)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(Disconnected(reason))
        self._pending.clear()
