"""Sends requests, and matches replies to the calls that wait for them."""

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
    """The calls in flight on the current connection, by correlation id.

    A call costs no task and no queue. A reply without a waiting call is ignored, because its caller has
    given up.
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
        """Send and receive on this connection until the returned channel has closed.

        The reply queue gets a new name each time: until the broker notices that the previous connection is
        dead, the previous queue stays locked. The caller bounds the wait. Raises Unavailable.
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
        channel.on_message = self._on_reply
        await channel.request(Basic.Consume(queue=queue, no_ack=True, exclusive=True), Basic.ConsumeOk)
        self._loop = asyncio.get_running_loop()
        self._encoder = RequestEncoder(channel.number, connection.frame_max, self._exchange, reply_to)
        self._write = connection.write
        channel.closed.add_done_callback(lambda closed: self._detach(connection, closed.result()))
        return channel

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
        """Send one request and return its result.

        Three arguments state the same moment: `loop_deadline` by the loop's clock, `deadline` in Unix seconds
        for the service, and `seconds_left` for the broker, which drops an expired request.
        """
        correlation_id = f"{self._prefix}{next(self._numbers):x}"
        request = self._encoder.encode(
            f"{service}.{method}",
            body,
            correlation_id,
            f"{self._name}.{service}.{correlation_id}",
            deadline,
            max(1, int(seconds_left * 1000)),
            context,
        )
        # A failure is a result of the future, not its exception. When a call is cancelled at the same moment,
        # asyncio would report the exception as never retrieved.
        reply: asyncio.Future[Message | MeshError] = self._loop.create_future()
        self._pending[correlation_id] = reply
        timer = self._loop.call_at(loop_deadline, self._expire, reply, service, method)
        self._write(request)
        try:
            outcome = await reply
        finally:
            timer.cancel()
            self._pending.pop(correlation_id, None)
        if not isinstance(outcome, Message):
            raise outcome
        if outcome.returned:
            raise UnknownService(f"no queue takes messages for {service!r}")
        return _result(outcome.body)

    def _on_reply(self, message: Message) -> None:
        reply = self._pending.pop(message.correlation_id, None)
        if reply is not None and not reply.done():
            reply.set_result(message)

    def _expire(self, reply: asyncio.Future[Message | MeshError], service: str, method: str) -> None:
        if not reply.done():
            reply.set_result(DeadlineExceeded(f"{service}.{method}: no answer in time"))

    def _detach(self, connection: Connection, reason: Unavailable) -> None:
        for reply in self._pending.values():
            if not reply.done():
                reply.set_result(Disconnected(str(reason)))
        self._pending.clear()
        connection.fail(reason)  # the rest of the connection is useless without this channel


def _result(body: bytes) -> Any:
    """Decode a reply in its caller's task, so that an unreadable reply fails this caller alone."""
    try:
        reply = orjson.loads(body)
        result, error = reply["result"], reply["error"]
    except (ValueError, TypeError, KeyError) as cause:
        raise RemoteFault("an unreadable reply", repr(body[:80])) from cause
    if error is None:
        return result
    if not isinstance(error, dict):
        raise RemoteFault("an unreadable error", repr(body[:80]))
    raise from_wire(error)
