"""An AMQP channel: matches the broker's replies to requests, and passes messages to a callback."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from pamqp import base, commands, frame

from nameko_mesh.aio.amqp.decoder import Message, ProtocolError, Received
from nameko_mesh.errors import Unavailable

Reply = TypeVar("Reply", bound=base.Frame)


class Owner(Protocol):
    """The part of a connection that its channels use."""

    def write(self, data: bytes) -> None: ...

    def forget(self, channel: Channel) -> None: ...


class Channel:
    """Belongs to one connection, and ends with that connection at the latest.

    An error of the broker ends the channel, not the connection. So a subscription, which may fail, uses
    another channel than the calls.
    """

    def __init__(self, owner: Owner, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.on_message: Callable[[Message], None] = _reject
        self.closed: asyncio.Future[Unavailable] = loop.create_future()
        """Done when the channel has ended, with the reason."""
        self._owner = owner
        self._loop = loop
        self._waiting: deque[tuple[type[base.Frame], asyncio.Future[base.Frame]]] = deque()
        """The kind of each expected reply, in the order of the requests."""

    def write(self, frames: bytes) -> None:
        """Send frames that are encoded for this channel."""
        self._owner.write(frames)

    def send(self, method: base.Frame) -> None:
        """Send a method that has no reply."""
        self._owner.write(frame.marshal(method, self.number))

    async def request(self, method: base.Frame, reply: type[Reply]) -> Reply:
        """Send a method and return its reply. The caller bounds the wait.

        Raises Unavailable if the broker closes the channel instead, and Disconnected if the connection is
        lost.
        """
        return await self.expect(reply, lambda: self.send(method))

    async def expect(self, reply: type[Reply], send: Callable[[], None]) -> Reply:
        """Call `send` and return the reply to the sent frames, as `request` does."""
        if self.closed.done():
            raise self.closed.result()
        waiter: asyncio.Future[base.Frame] = self._loop.create_future()
        self._waiting.append((reply, waiter))
        send()
        return cast(Reply, await waiter)

    def receive(self, received: Received) -> None:
        """Process a method or message that arrived for this channel. Raises ProtocolError."""
        if isinstance(received, Message):
            if not self.closed.done():
                self.on_message(received)
        elif self._waiting and isinstance(received, self._waiting[0][0]):
            waiter = self._waiting.popleft()[1]
            if not waiter.done():  # the requester may have been cancelled
                waiter.set_result(received)
        else:
            self.unsolicited(received)

    def unsolicited(self, method: base.Frame) -> None:
        """Process a method that is not the reply to a request."""
        if isinstance(method, commands.Channel.Close):
            self.send(commands.Channel.CloseOk())
            self.end(Unavailable(f"the broker closed a channel: {method.reply_code} {method.reply_text}"))
        elif isinstance(method, commands.Basic.Cancel):
            # A channel here has one consumer and is useless without it. Closing notifies the channel's user.
            self.close(Unavailable(f"the broker cancelled the consumer {method.consumer_tag}"))
        elif isinstance(method, commands.Channel.CloseOk) and self.closed.done():
            self.end(self.closed.result())
        else:
            raise ProtocolError(f"unexpected {method.name}")

    def close(self, reason: Unavailable) -> None:
        """End the channel at once. Its number stays taken until the broker has confirmed."""
        if not self.closed.done():
            self.closed.set_result(reason)
            self.send(commands.Channel.Close(200, "", 0, 0))

    def end(self, reason: Unavailable) -> None:
        """Release the channel's number, and fail all waiting requests with the reason."""
        self._owner.forget(self)
        if not self.closed.done():
            self.closed.set_result(reason)
        while self._waiting:
            waiter = self._waiting.popleft()[1]
            if not waiter.done():
                waiter.set_exception(reason)


def _reject(message: Message) -> None:
    raise ProtocolError("a message arrived on a channel without a consumer")
