"""Keeps one connection to the broker, through whatever ends it."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from nameko_mesh.aio.amqp.address import Address
from nameko_mesh.aio.amqp.connection import Connection
from nameko_mesh.aio.amqp.decoder import ProtocolError
from nameko_mesh.errors import Disconnected, Unavailable

CONNECT_TIMEOUT_SECONDS = 10.0
"""Seconds for each of: the socket with the login, and what is declared after it."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.05, 5.0

log = logging.getLogger(__name__)


def backoff(attempt: int) -> float:
    """Seconds to wait before try number `attempt` (0 is the first): exponential, with full jitter.

    The jitter keeps clients that lost one broker together from coming back together
    (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return random.uniform(0.0, min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16)))


async def open_connection(
    address: Address, *, name: str, heartbeat: int, tls: ssl.SSLContext | None, within: float
) -> Connection:
    """A connection that is logged in. Times in seconds.

    Raises Unavailable, whatever went wrong, within that time.
    """
    loop = asyncio.get_running_loop()
    context = (tls or ssl.create_default_context()) if address.tls else None
    connection: Connection | None = None
    try:
        async with asyncio.timeout(within):
            _, connection = await loop.create_connection(Connection, address.host, address.port, ssl=context)
            await connection.handshake(address, name, heartbeat)
            return connection
    except BaseException as error:
        if connection is not None:
            connection.fail(Disconnected("given up before it was ready"))
        if isinstance(error, TimeoutError):
            raise Unavailable(f"no answer from {address} within {within:g} s") from None
        if isinstance(error, (OSError, ProtocolError, Unavailable)):  # TLS failures are OSErrors too
            raise Unavailable(f"{address}: {error}") from error
        raise


class ReconnectingConnection:
    """Connects, calls `attach`, and does it again with back-off whenever the connection is lost.

    A connection is only ready after `attach`, which declares and consumes what its owner needs;
    when it raises Unavailable the connection counts as failed. Of several addresses the next is tried
    each time.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        attach: Callable[[Connection], Awaitable[None]],
        *,
        name: str,
        heartbeat: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.connection: Connection | None = None
        self.problem = "not connected yet"
        """Why there was no connection when there last was none."""
        self._addresses = addresses
        self._attach = attach
        self._name = name
        self._heartbeat = heartbeat
        self._tls = tls
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self._name}: broker link")

    async def stop(self) -> None:
        """Closes the connection and never connects again. Takes about two seconds at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def ready(self) -> Connection:
        """The connection, when there is one; the caller bounds the wait."""
        while self.connection is None:
            await self._up.wait()
        return self.connection

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        for address in cycle(self._addresses):
            began, told = loop.time(), self.problem
            try:
                await self._connect_once(address)
            except Unavailable as error:
                self.problem = str(error)
            except Exception as error:  # a defect of ours must not leave the client disconnected for ever
                log.exception("%s: the connection failed in an unforeseen way", self._name)
                self.problem = repr(error)
            # One that a broker accepts and drops again and again must not reset the back-off.
            attempt = 0 if loop.time() - began > MAX_BACKOFF_SECONDS else attempt + 1
            level = logging.DEBUG if self.problem == told else logging.WARNING
            log.log(level, "%s: no connection to the broker: %s", self._name, self.problem)
            await asyncio.sleep(backoff(attempt))

    async def _connect_once(self, address: Address) -> None:
        """Returns never; raises Unavailable when the connection failed or was lost."""
        connection = await open_connection(
            address, name=self._name, heartbeat=self._heartbeat, tls=self._tls, within=CONNECT_TIMEOUT_SECONDS
        )
        try:
            await self._prepare(connection, address)
            log.info("%s: connected to %s", self._name, address)
            self.connection = connection
            self._up.set()
            raise await asyncio.shield(connection.lost)
        finally:
            self.connection = None
            self._up.clear()
            await connection.close()

    async def _prepare(self, connection: Connection, address: Address) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._attach(connection)
        except TimeoutError:
            raise Unavailable(
                f"{address} left declarations unanswered for {CONNECT_TIMEOUT_SECONDS:g} s"
            ) from None
