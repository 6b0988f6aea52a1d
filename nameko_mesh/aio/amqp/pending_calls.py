"""The calls that were sent and not yet answered, on the connection of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any
from uuid import uuid4

import orjson
from pamqp.commands import Basic, Exchange, Queue

from nameko_mesh.aio.amqp.channel import Channel
from nameko_mesh.aio.amqp.connection import Connection
from nameko_mesh.aio.amqp.decoder import Message
from nameko_mesh.aio.amqp.request_encoder import RequestEncoder
from nameko_mesh.errors import (
    DeadlineExceeded,
    Disconnected,
    MeshError,
    RemoteFault,
    Unavailable,
    UnknownService,
    from_wire,
)


class PendingCalls:
    """Sends requests and matches replies by correlation id; no task and no queue for a call.

    A reply for which nobody waits any more is ignored.
    """

    def __init__(self, name: str, exchange: str) -> None:
        self._name = name
        self._exchange = exchange
        self._pending: dict[str, asyncio.Future[Message | MeshError]] = {}
        self._prefix = uuid4().hex[:12]
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._pending)

    async def attach(self, connection: Connection) -> Channel:
        """Consumes replies on this connection from now on, and sends on it, until the channel has closed.

        The queue has a new name each time: while the broker has not noticed that the connection before
        is dead, the old one is still locked. Raises Unavailable; the caller bounds the wait.
        """
        channel = await connection.open_channel()
        reply_to = str(uuid4())
        queue = f"rpc.reply-{self._name}-{reply_to}"
        await channel.request(
            Exchange.Declare(exchange=self._exchange, exchange_type="topic", durable=True), Exchange.DeclareOk
        )
        await channel.request(Queue.Declare(queue=queue, exclusive=True, auto_delete=True), Queue.DeclareOk)
        await channel.request(
            Queue.Bind(queue=queue, exchange=self._exchange, routing_key=reply_to), Queue.BindOk
        )
        channel.on_message = self._received
        await channel.request(Basic.Consume(queue=queue, no_ack=True, exclusive=True), Basic.ConsumeOk)
        self._loop = asyncio.get_running_loop()
        self._encoder = RequestEncoder(channel.number, connection.frame_max, self._exchange, reply_to)
        self._write = connection.write
        channel.closed.add_done_callback(lambda closed: self._detached(channel, closed.result()))
        return channel

    async def ask(
        self,
        service: str,
        method: str,
        body: bytes,
        until: float,
        deadline: float,
        left: float,
        context: Mapping[str, Any] | None,
    ) -> Any:
        """Sends one request and waits for its result.

        The same moment three times: `until` on the loop's clock, `deadline` in Unix seconds for the service,
        `left` in seconds for the broker, which drops the request after it.
        """
        correlation_id = f"{self._prefix}{next(self._numbers):x}"
        request = self._encoder.encode(
            f"{service}.{method}",
            body,
            correlation_id,
            f"{self._name}.{service}.{correlation_id}",
            deadline,
            max(1, int(left * 1000)),
            context,
        )
        # Failures are results of this future too: as exceptions, those of a call that is cancelled in
        # the same moment would be reported as never retrieved.
        answer: asyncio.Future[Message | MeshError] = self._loop.create_future()
        self._pending[correlation_id] = answer
        timer = self._loop.call_at(until, self._expire, answer, service, method)
        self._write(request)
        try:
            outcome = await answer
        finally:
            timer.cancel()
            self._pending.pop(correlation_id, None)
        if not isinstance(outcome, Message):
            raise outcome
        if outcome.returned:
            raise UnknownService(f"no queue takes messages for {service!r}")
        return _result(outcome.body)

    def _received(self, message: Message) -> None:
        answer = self._pending.pop(message.correlation_id, None)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _expire(self, answer: asyncio.Future[Message | MeshError], service: str, method: str) -> None:
        if not answer.done():
            answer.set_result(DeadlineExceeded(f"{service}.{method}: no answer in time"))

    def _detached(self, channel: Channel, reason: Unavailable) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(Disconnected(str(reason)))
        self._pending.clear()
        channel.connection.fail(reason)  # without this channel the rest of the connection is of no use


def _result(body: bytes) -> Any:
    """What a reply says, decoded where its caller waits: one that cannot be read concerns nobody else."""
    try:
        reply = orjson.loads(body)
        result, error = reply["result"], reply["error"]
    except (ValueError, TypeError, KeyError) as cause:
        raise RemoteFault("a reply that cannot be read", repr(body[:80])) from cause
    if error is None:
        return result
    if not isinstance(error, dict):
        raise RemoteFault("an error that cannot be read", repr(body[:80]))
    raise from_wire(error)
