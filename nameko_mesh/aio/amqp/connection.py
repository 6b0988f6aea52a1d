"""An AMQP connection: login, heartbeats, flow control, channels, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from pamqp import base, commands, frame
from pamqp.heartbeat import Heartbeat

from nameko_mesh.aio.amqp.address import Address
from nameko_mesh.aio.amqp.channel import Channel
from nameko_mesh.aio.amqp.decoder import Decoder, ProtocolError
from nameko_mesh.errors import Disconnected, Unavailable

MAX_FRAME_BYTES = 128 * 1024
"""The longest frame that is sent or accepted. The broker may ask for less."""
_MIN_FRAME_BYTES = 4096
_CLOSE_TIMEOUT_SECONDS = 1.0
_MAX_SILENT_TICKS = 4
_HEARTBEAT = frame.marshal(Heartbeat(), 0)


class Connection(asyncio.Protocol):
    """Made by `reconnecting.open_connection`. `lost` holds the reason when the connection has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Unavailable] = self._loop.create_future()
        self.frame_max = MAX_FRAME_BYTES
        self.blocked = ""
        """The broker's reason for taking no messages now: its memory or disk alarm. Otherwise empty."""
        self.paused = False
        """True while the socket's buffer is full, because the broker reads too slowly."""
        self.on_flow: Callable[[], None] = lambda: None
        """Called after each change of `blocked` or `paused`."""
        self._decoder = Decoder(MAX_FRAME_BYTES)
        self._control = _Control(self)
        self._channels: dict[int, Channel] = {0: self._control}
        self._channel_max = 0
        self._out: list[bytes] = []
        self._reason: Unavailable | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._silent_ticks = 0
        self._wrote = True

    async def handshake(self, address: Address, name: str, heartbeat: int) -> None:
        """Log in and open the virtual host. The caller bounds the wait.

        Raises Unavailable or ProtocolError.
        """
        control, methods = self._control, commands.Connection
        start = await control.expect(methods.Start, lambda: self.write(b"AMQP\x00\x00\x09\x01"))
        if "PLAIN" not in str(start.mechanisms).split():
            raise Unavailable(f"the broker offers no PLAIN login, only {start.mechanisms}")
        login = methods.StartOk(
            client_properties={
                "product": "nameko_mesh",
                "platform": "asyncio",
                "connection_name": name,
                "capabilities": {
                    "authentication_failure_close": True,
                    "connection.blocked": True,
                    "consumer_cancel_notify": True,
                },
            },
            response=f"\0{address.user}\0{address.password}",
        )
        tune = await control.request(login, methods.Tune)
        self._tune(tune, heartbeat if address.heartbeat is None else address.heartbeat)
        await control.request(methods.Open(address.vhost), methods.OpenOk)

    def _tune(self, tune: commands.Connection.Tune, heartbeat: int) -> None:
        """Agree on the smaller value of each pair. 0 means no limit, or no heartbeats."""
        self._channel_max = min(tune.channel_max or 0xFFFF, 0xFFFF)
        self.frame_max = self._decoder.frame_max = min(tune.frame_max or MAX_FRAME_BYTES, MAX_FRAME_BYTES)
        if self.frame_max < _MIN_FRAME_BYTES:
            raise ProtocolError(f"the broker asks for frames of at most {self.frame_max} bytes")
        heartbeat = min(heartbeat, tune.heartbeat or heartbeat)
        self._control.send(commands.Connection.TuneOk(self._channel_max, self.frame_max, heartbeat))
        if heartbeat:
            self._tick(heartbeat / 2)

    async def open_channel(self) -> Channel:
        """Open a channel. The caller bounds the wait. Raises Unavailable."""
        if self.lost.done():
            raise self.lost.result()
        number = next((n for n in range(1, self._channel_max + 1) if n not in self._channels), None)
        if number is None:
            raise Unavailable(f"all {self._channel_max} channels of the connection are in use")
        channel = self._channels[number] = Channel(self, number)
        self._decoder.channels.add(number)
        try:
            await channel.request(commands.Channel.Open(), commands.Channel.OpenOk)
        except asyncio.CancelledError:
            channel.close(Unavailable("opening the channel was cancelled"))
            raise
        return channel

    def forget(self, channel: Channel) -> None:
        """Release the number of a channel that has ended."""
        if self._channels.pop(channel.number, None):
            self._decoder.forget(channel.number)

    def write(self, data: bytes) -> None:
        """Send at the end of this iteration of the event loop, with its other writes in one system call."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._reason is None:
            self._wrote = True
            self._transport.write(b"".join(self._out))
        self._out.clear()

    async def close(self) -> None:
        """Close the connection in an orderly way, within about two seconds."""
        if not self.lost.done():
            methods = commands.Connection
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                    await self._control.request(methods.Close(200, "", 0, 0), methods.CloseOk)
            except (TimeoutError, Unavailable):
                pass  # the broker did not confirm; the connection is dropped below
            finally:
                self.fail(Disconnected("the connection was closed"))
        await asyncio.wait([self.lost], timeout=_CLOSE_TIMEOUT_SECONDS)

    def fail(self, reason: Unavailable) -> None:
        """Drop the connection now. Callers get the first reason that was given."""
        if self._reason is None:
            self._reason = reason
            self._transport.abort()

    def leave(self, reason: Unavailable) -> None:
        """Drop the connection when all written data is sent, or after a second."""
        self._flush()
        self._reason = reason
        self._transport.close()
        self._stop_ticking()
        self._ticker = self._loop.call_later(_CLOSE_TIMEOUT_SECONDS, self._transport.abort)

    def _stop_ticking(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()

    def _tick(self, interval: float) -> None:
        """Run twice in each heartbeat interval. After two intervals of silence the broker counts as dead."""
        self._silent_ticks += 1
        if self._silent_ticks > _MAX_SILENT_TICKS:
            self.fail(Disconnected(f"the broker was silent for {4 * interval:g} s"))
            return
        if not self._wrote:
            self.write(_HEARTBEAT)
            self._flush()
        self._wrote = False
        self._ticker = self._loop.call_later(interval, self._tick, interval)

    # The methods of asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not inherit from it

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        try:
            for number, received in self._decoder.feed(data):
                self._channels[number].receive(received)
                if self._reason is not None:
                    return
        except ProtocolError as error:
            self.fail(Disconnected(f"the broker violated AMQP: {error}"))

    def pause_writing(self) -> None:
        self.paused = True
        self.on_flow()

    def resume_writing(self) -> None:
        self.paused = False
        self.on_flow()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reason is None:
            self._reason = Disconnected(f"the connection was lost: {exc or 'closed by the broker'}")
        self._stop_ticking()
        self.on_flow = lambda: None
        self.lost.set_result(self._reason)
        for channel in list(self._channels.values()):
            channel.end(self._reason)


class _Control(Channel):
    """Channel 0, whose methods concern the whole connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, 0)
        self._connection = connection

    def unsolicited(self, method: base.Frame) -> None:
        methods, connection = commands.Connection, self._connection
        if isinstance(method, methods.Close):
            self.send(methods.CloseOk())
            connection.leave(
                Disconnected(f"the broker closed the connection: {method.reply_code} {method.reply_text}")
            )
        elif isinstance(method, methods.Blocked):
            connection.blocked = method.reason or "no reason given"
            connection.on_flow()
        elif isinstance(method, methods.Unblocked):
            connection.blocked = ""
            connection.on_flow()
        else:
            super().unsolicited(method)
