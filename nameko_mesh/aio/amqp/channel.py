"""One AMQP channel: requests answered in order, messages handed to whoever opened it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from pamqp import base, commands, frame

from nameko_mesh.aio.amqp.decoder import Message, ProtocolError, Received
from nameko_mesh.errors import Unavailable

if TYPE_CHECKING:
    from nameko_mesh.aio.amqp.connection import Connection

Answer = TypeVar("Answer", bound=base.Frame)


class Channel:
    """Belongs to one connection and ends with it at the latest.

    An error of the broker ends the channel, not the connection: one that must not disturb
    others has a channel of its own.
    """

    def __init__(self, connection: Connection, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.connection = connection
        self.on_message: Callable[[Message], None] = _unexpected
        self.closed: asyncio.Future[Unavailable] = loop.create_future()
        """Done when the channel has ended, with the reason."""
        self._loop = loop
        self._waiting: deque[tuple[type[base.Frame], asyncio.Future[base.Frame]]] = deque()

    def send(self, method: base.Frame) -> None:
        """Sends a method that nobody answers."""
        self.connection.write(frame.marshal(method, self.number))

    async def request(self, method: base.Frame, answer: type[Answer]) -> Answer:
        """Sends a method and waits for its answer; the caller bounds the wait.

        Raises Unavailable when the broker closes the channel instead, Disconnected when the
        connection is lost.
        """
        return await self.expect(answer, lambda: self.send(method))

    async def expect(self, answer: type[Answer], ask: Callable[[], None]) -> Answer:
        """Waits for the answer to what `ask` sends."""
        if self.closed.done():
            raise self.closed.result()
        waiter: asyncio.Future[base.Frame] = self._loop.create_future()
        self._waiting.append((answer, waiter))
        ask()
        return cast(Answer, await waiter)

    def receive(self, item: Received) -> None:
        """Takes what the connection read for this channel. Raises ProtocolError."""
        if isinstance(item, Message):
            if not self.closed.done():
                self.on_message(item)
        elif self._waiting and isinstance(item, self._waiting[0][0]):
            waiter = self._waiting.popleft()[1]
            if not waiter.done():  # whoever asked may have been cancelled
                waiter.set_result(item)
        else:
            self.unasked(item)

    def unasked(self, method: base.Frame) -> None:
        """What the broker says of its own accord."""
        if isinstance(method, commands.Channel.Close):
            self.send(commands.Channel.CloseOk())
            self.end(Unavailable(f"the broker closed a channel: {method.reply_code} {method.reply_text}"))
        elif isinstance(method, commands.Basic.Cancel):
            # A channel of ours has one consumer and no use without it; closing tells its owner.
            self.close(Unavailable(f"the broker cancelled the consumer {method.consumer_tag}"))
        elif isinstance(method, commands.Channel.CloseOk) and self.closed.done():
            self.end(self.closed.result())
        else:
            raise ProtocolError(f"{method.name} where nobody asked for it")

    def close(self, reason: Unavailable) -> None:
        """Ends the channel for us at once; its number is free when the broker has agreed."""
        if not self.closed.done():
            self.closed.set_result(reason)
            self.send(commands.Channel.Close(200, "", 0, 0))

    def end(self, reason: Unavailable) -> None:
        """The channel is gone: all who wait on it are told why."""
        self.connection.forget(self)
        if not self.closed.done():
            self.closed.set_result(reason)
        while self._waiting:
            waiter = self._waiting.popleft()[1]
            if not waiter.done():
                waiter.set_exception(reason)


def _unexpected(message: Message) -> None:
    raise ProtocolError("a message where nobody consumes")
