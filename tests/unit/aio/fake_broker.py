"""A scripted broker: enough of AMQP for one client, and every kind of misbehaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import orjson
from pamqp import base, commands, frame
from pamqp.body import ContentBody
from pamqp.exceptions import UnmarshalingException
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

_CHUNK = 100_000
_TUNE = commands.Connection.Tune(channel_max=64, frame_max=131072, heartbeat=60)
_ANSWERS: dict[type[base.Frame], Callable[[], base.Frame]] = {
    commands.Connection.StartOk: lambda: _TUNE,
    commands.Connection.Open: commands.Connection.OpenOk,
    commands.Connection.Close: commands.Connection.CloseOk,
    commands.Channel.Open: commands.Channel.OpenOk,
    commands.Channel.Close: commands.Channel.CloseOk,
    commands.Exchange.Declare: commands.Exchange.DeclareOk,
    commands.Queue.Declare: lambda: commands.Queue.DeclareOk("q", 0, 0),
    commands.Queue.Bind: commands.Queue.BindOk,
    commands.Basic.Qos: commands.Basic.QosOk,
    commands.Basic.Consume: lambda: commands.Basic.ConsumeOk("consumer"),
}


class Session:
    """A connection of the client, seen from the broker."""

    def __init__(
        self, broker: FakeBroker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.methods: list[base.Frame] = []
        self.heartbeats = 0
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._broker = broker
        self._reader = reader
        self._writer = writer

    def send(self, *frames: Any, channel: int = 1) -> None:
        self.send_bytes(b"".join(frame.marshal(item, channel) for item in frames))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def reset(self) -> None:
        """End the connection as a dying process does."""
        self._writer.transport.abort()

    def pause(self) -> None:
        """Stop reading, as a broker under an alarm does."""
        self._writer.transport.pause_reading()

    def declared(self, kind: type[base.Frame]) -> list[Any]:
        return [method for method in self.methods if isinstance(method, kind)]

    async def run(self) -> None:
        try:
            await self._reader.readexactly(8)
            if self._broker.mute:
                await self._reader.read()
                return
            self.send(commands.Connection.Start(mechanisms=self._broker.mechanisms), channel=0)
            await self._read_frames()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            self._writer.close()

    async def _read_frames(self) -> None:
        publish: commands.Basic.Publish | None = None
        header = ContentHeader()
        body = b""
        while True:
            channel, item = await self._next()
            if isinstance(item, Heartbeat):
                self.heartbeats += 1
            elif isinstance(item, commands.Basic.Publish):
                publish, body = item, b""
            elif isinstance(item, ContentHeader):
                header = item
            elif isinstance(item, ContentBody):
                body += item.value
                if publish is not None and len(body) == header.body_size:
                    self.requests.put_nowait(Request(self, channel, publish, header, body))
            elif isinstance(item, base.Frame):
                self.methods.append(item)
                answer = self._broker.answers.get(type(item))
                if answer is not None:
                    self.send(answer(), channel=channel)

    async def _next(self) -> tuple[int, Any]:
        head = await self._reader.readexactly(7)
        data = head + await self._reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
        try:
            _, channel, item = frame.unmarshal(data)
        except UnmarshalingException as error:
            raise AssertionError(f"the client sent what pamqp cannot read: {data[:80]!r}") from error
        return channel, item


class Request:
    """A request as it arrived."""

    def __init__(
        self,
        session: Session,
        channel: int,
        publish: commands.Basic.Publish,
        header: ContentHeader,
        body: bytes,
    ) -> None:
        self.session = session
        self.channel = channel
        self.publish = publish
        self.properties = header.properties
        self.kwargs: dict[str, Any] = orjson.loads(body)["kwargs"]

    def content(self, method: base.Frame, body: bytes) -> tuple[Any, ...]:
        properties = commands.Basic.Properties(correlation_id=self.properties.correlation_id)
        chunks = [ContentBody(body[at : at + _CHUNK]) for at in range(0, len(body), _CHUNK)]
        return method, ContentHeader(0, len(body), properties), *chunks

    def answer(self, result: Any = None, error: Any = None) -> None:
        self.answer_bytes(orjson.dumps({"result": result, "error": error}))

    def answer_bytes(self, body: bytes) -> None:
        deliver = commands.Basic.Deliver("consumer", 1, False, "nameko-rpc", self.properties.reply_to)
        self.session.send(*self.content(deliver, body), channel=self.channel)

    def give_back(self) -> None:
        returned = commands.Basic.Return(312, "NO_ROUTE", "nameko-rpc", self.publish.routing_key)
        self.session.send(*self.content(returned, b"{}"), channel=self.channel)


class FakeBroker:
    """Listens on a free port. Sessions are in the order of their connections."""

    def __init__(self) -> None:
        self.answers = dict(_ANSWERS)
        self.mechanisms = "PLAIN AMQPLAIN"
        self.mute = False
        """Accept connections and send nothing, like a half-open peer."""
        self.sessions: list[Session] = []
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def uri(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def listen(self) -> None:
        """Start, or start again on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections from now on, and end the open ones."""
        self._server.close()
        for session in self.sessions:
            session.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def session(self, number: int = 0) -> Session:
        """Wait for the client's connection number `number` and return it."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.sessions) > number)
        return self.sessions[number]

    async def request(self, number: int = 0) -> Request:
        """Wait for the next request on the client's connection `number` and return it."""
        async with asyncio.timeout(10):
            return await (await self.session(number)).requests.get()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        async with self._arrived:
            self.sessions.append(session)
            self._arrived.notify_all()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await session.run()
