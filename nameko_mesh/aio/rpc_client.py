"""Calls Nameko services and receives their events, over one AMQP connection."""

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
    """A client for stock Nameko's RPC and events. It reconnects by itself.

    Belongs to the event loop that started it. All times are in seconds.

    While there is no connection, or the broker blocks publishers, a call waits until its deadline, but not
    beyond `patience` seconds after the interruption began. Then it raises Unavailable, and nothing was sent.
    If the connection is lost after a call was sent, the call raises Disconnected: the service may have
    executed it.
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
        """`name` appears in traces, in queue names and in the broker's list of connections.

        `amqp_uri` may name several brokers, separated by `;`. `heartbeat` is in whole seconds; a value in
        the URI, or a smaller one from the broker, takes precedence. A dead broker is detected after twice
        the heartbeat. `tls` is for `amqps`; by default the system's certificates are trusted.
        Raises ValueError for an invalid URI.
        """
        self.name = name
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        """The number of calls that wait for their result."""
        self._default_timeout = default_timeout
        self._pending_calls = PendingCalls(name, exchange)
        self._gate = Gate(patience)
        self._reconnecting = ReconnectingConnection(
            parse_addresses(amqp_uri), self._attach, name=name, heartbeat=heartbeat, tls=tls
        )
        self._subscriptions: set[Subscription] = set()
        self._idle = asyncio.Event()
        self._started = self._stopping = False

    async def start(self, *, wait: float = 10.0) -> None:
        """Connect, and reconnect until `stop`.

        Raises Unavailable if there is no connection after `wait`; the client is stopped then. With `wait=0`
        it returns at once and never raises, for a program that must start before its broker.
        """
        if self._started or self._stopping:
            raise RuntimeError("a client can be started only once")
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
        """Refuse new calls, wait up to `drain` for the calls in flight, and close.

        Calls that are still in flight then raise Disconnected.
        """
        self._stopping = True
        if self.in_flight and drain:
            try:
                async with asyncio.timeout(drain):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("%s: stopping with %d calls in flight", self.name, self.in_flight)
        self._gate.shut("the client is stopped", for_good=True)
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
        """True if a call could be sent now. Useful for a readiness check."""
        return self._gate.is_open

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the request carries it
        deadline: float | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `service.method(**kwargs)` and return its result.

        `deadline` is in Unix seconds, `timeout` counts from now. The earlier of both holds; without both, the
        client's default timeout. `context` reaches the service as Nameko's context data, and the services
        that it calls.

        Raises Refused or RemoteFault for an error of the service; UnknownService, Overloaded or Unavailable
        if the request reached no service; DeadlineExceeded or Disconnected if the outcome is unknown;
        TypeError or ValueError for arguments that JSON or AMQP cannot represent.
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
        loop_deadline = self._loop.time() + deadline - now
        self.in_flight += 1
        try:
            if not self._gate.is_open:
                await self._gate.wait(loop_deadline)
                now = time.time()
            return await self._pending_calls.call(
                service,
                method,
                body,
                loop_deadline=loop_deadline,
                deadline=deadline,
                seconds_left=deadline - now,
                context=context,
            )
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
        """Pass every event of these types from the service `source` to `callback`.

        Begins at once, or with `start`. `Subscription` describes the guarantees. At most `prefetch` events
        wait in this process. Raises Unavailable if the client is stopped.
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
        channel = await self._pending_calls.attach(connection)
        connection.on_flow = lambda: self._update_gate(connection, channel)
        # The channel ends before its connection. A call that passed the gate in between would get no answer.
        channel.closed.add_done_callback(lambda closed: self._gate.shut(str(closed.result())))
        self._update_gate(connection, channel)

    def _update_gate(self, connection: Connection, channel: Channel) -> None:
        if channel.closed.done():
            return
        if connection.blocked:
            self._gate.shut(f"the broker blocks publishers: {connection.blocked}")
        elif connection.paused:
            self._gate.shut("the broker reads too slowly")
        else:
            self._gate.open()
