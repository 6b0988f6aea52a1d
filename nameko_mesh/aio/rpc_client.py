"""PendingCalls to Nameko services: many at once over one connection, each with a deadline."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import orjson

from nameko_mesh.aio.amqp.address import parse_addresses
from nameko_mesh.aio.amqp.channel import Channel
from nameko_mesh.aio.amqp.connection import Connection
from nameko_mesh.aio.amqp.gate import Gate
from nameko_mesh.aio.amqp.pending_calls import PendingCalls
from nameko_mesh.aio.amqp.reconnecting import ReconnectingConnection
from nameko_mesh.aio.amqp.subscription import Callback, Subscription
from nameko_mesh.errors import DeadlineExceeded, Overloaded, Unavailable

log = logging.getLogger(__name__)


class RpcClient:
    """Speaks stock Nameko's RPC and events from asyncio, over one connection that mends itself.

    Belongs to the loop that started it. Times are seconds throughout.

    A call that cannot be sent (no connection, or the broker's memory alarm) waits until its deadline,
    but no longer than `patience` after the trouble began, and is then Unavailable. One that was sent
    when the connection went is Disconnected: it may have been executed.
    """

    def __init__(
        self,
        amqp_uri: str,
        *,
        name: str = "client",
        max_in_flight: int = 1000,
        default_timeout: float = 5.0,
        patience: float = 2.0,
        heartbeat: int = 10,
        exchange: str = "nameko-rpc",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`name` shows in traces, queue names and the broker's list of connections.

        `amqp_uri` may hold several brokers with `;` between them. A dead peer is noticed after twice
        `heartbeat` (whole seconds; the URI's own and the broker's wishes go before). `tls` is for `amqps`;
        the default verifies as the system does. Raises ValueError for a URI that cannot be read.
        """
        self.name = name
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        """PendingCalls that have begun and not ended."""
        self._default_timeout = default_timeout
        self._calls = PendingCalls(name, exchange)
        self._gate = Gate(patience)
        self._reconnecting = ReconnectingConnection(
            parse_addresses(amqp_uri), self._attach, name=name, heartbeat=heartbeat, tls=tls
        )
        self._subscriptions: set[Subscription] = set()
        self._idle = asyncio.Event()
        self._started = self._stopping = False

    async def start(self, *, wait: float = 10.0) -> None:
        """Connects, and keeps connecting whatever happens until `stop`.

        Raises Unavailable when there is no connection after `wait`, and has stopped then. With
        `wait=0` it returns at once and never raises: for a program that must come up before its broker.
        """
        if self._started or self._stopping:
            raise RuntimeError("a client is started once")
        self._loop = asyncio.get_running_loop()
        self._started = True
        self._gate.shut(self._reconnecting.problem)
        self._reconnecting.start()
        for subscription in self._subscriptions:
            subscription.start()
        if wait:
            try:
                async with asyncio.timeout(wait):
                    await self._reconnecting.ready()
            except TimeoutError:
                await self.stop(drain=0)
                problem = self._reconnecting.problem
                raise Unavailable(f"no connection to the broker in {wait:g} s: {problem}") from None

    async def stop(self, *, drain: float = 5.0) -> None:
        """Takes no more calls, gives those in flight `drain` to end, closes. Those left are Disconnected."""
        self._stopping = True
        if self.in_flight and drain:
            try:
                async with asyncio.timeout(drain):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("%s: stopped with %d calls in flight", self.name, self.in_flight)
        self._gate.shut("the client was stopped", for_good=True)
        for subscription in list(self._subscriptions):
            await subscription.close()
        await self._reconnecting.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def is_connected(self) -> bool:
        """PendingCalls can be sent now: for a readiness check."""
        return self._gate.is_open

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the request
        deadline: float | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `service.method(**kwargs)` returned.

        `deadline` is Unix seconds, `timeout` counts from now; the earlier holds, and the client's default
        when neither is given. `context` travels to the service, and on from it, as Nameko's context data.

        Raises Refused or RemoteFault for what the service raised; UnknownService, Overloaded or
        Unavailable when nobody got it; DeadlineExceeded or Disconnected when nobody knows. TypeError
        and ValueError for arguments that JSON or AMQP cannot hold.
        """
        now = time.time()
        if deadline is None:
            deadline = now + (self._default_timeout if timeout is None else timeout)
        elif timeout is not None:
            deadline = min(deadline, now + timeout)
        if self._stopping or not self._started:
            raise Unavailable("the client is not running")
        if self.in_flight >= self.max_in_flight:
            raise Overloaded(f"{self.max_in_flight} calls are in flight")
        if deadline <= now:
            raise DeadlineExceeded(f"{service}.{method}: the deadline had passed before it was sent")
        body = orjson.dumps({"args": (), "kwargs": kwargs or {}})
        until = self._loop.time() + deadline - now
        self.in_flight += 1
        try:
            if not self._gate.is_open:
                await self._gate.wait(until)
                now = time.time()
            return await self._calls.ask(service, method, body, until, deadline, deadline - now, context)
        finally:
            self.in_flight -= 1
            if self._stopping and not self.in_flight:
                self._idle.set()

    def subscribe(
        self,
        source: str,
        types: Sequence[str],
        callback: Callback,
        *,
        on_flowing: Callable[[], None] | None = None,
        prefetch: int = 100,
    ) -> Subscription:
        """Hands every event of these types that the service `source` publishes to `callback`.

        Begins at once, or at `start`; see `Subscription` for what is promised. At most `prefetch` events
        wait in this process. Raises Unavailable when the client was stopped.
        """
        if self._stopping:
            raise Unavailable("the client is not running")
        subscription = Subscription(
            self._reconnecting,
            self.name,
            source,
            types,
            callback,
            on_flowing=on_flowing,
            prefetch=prefetch,
            ended=self._subscriptions.discard,
        )
        self._subscriptions.add(subscription)
        if self._started:
            subscription.start()
        return subscription

    async def _attach(self, connection: Connection) -> None:
        channel = await self._calls.attach(connection)
        connection.on_flow = lambda: self._flow(channel)
        # The channel ends before its connection does: a call let through in between would find nobody.
        channel.closed.add_done_callback(lambda closed: self._gate.shut(str(closed.result())))
        self._flow(channel)

    def _flow(self, channel: Channel) -> None:
        connection = channel.connection
        if channel.closed.done():
            return
        if connection.blocked:
            self._gate.shut(f"the broker takes no messages: {connection.blocked}")
        elif connection.paused:
            self._gate.shut("the broker reads too slowly")
        else:
            self._gate.open()
