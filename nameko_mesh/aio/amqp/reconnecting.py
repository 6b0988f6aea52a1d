"""Keeps a connection to the broker, and reconnects with back-off when the connection is lost."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from nameko_mesh.aio.amqp.address import Address
from nameko_mesh.aio.amqp.connection import Connection
from nameko_mesh.aio.amqp.decoder import ProtocolError
from nameko_mesh.backoff import back_off
from nameko_mesh.errors import Disconnected, Unavailable

CONNECT_TIMEOUT_SECONDS = 10.0
"""The timeout of connecting with login, and of the declarations after it, each."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.05, 5.0
STABLE_SECONDS = MAX_BACKOFF_SECONDS
"""A connection that lasted longer than this resets the back-off.

Otherwise a broker that accepts connections and drops them at once would be flooded with attempts.
"""

log = logging.getLogger(__name__)


def reconnect_delay(failures: int) -> float:
    """Return the seconds to wait after `failures` failures in a row."""
    return back_off(failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)


async def open_connection(
    address: Address, *, name: str, heartbeat: int, tls: ssl.SSLContext | None, timeout_seconds: float
) -> Connection:
    """Connect and log in. `heartbeat` is in seconds.

    Raises Unavailable for every failure, within the timeout.
    """
    loop = asyncio.get_running_loop()
    context = (tls or ssl.create_default_context()) if address.tls else None
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(Connection, address.host, address.port, ssl=context)
            await connection.handshake(address, name, heartbeat)
            return connection
    except BaseException as error:
        if connection is not None:
            connection.fail(Disconnected("the connection attempt failed"))
        if isinstance(error, TimeoutError):
            raise Unavailable(f"no answer from {address} within {timeout_seconds:g} s") from None
        if isinstance(error, (OSError, ProtocolError, Unavailable)):  # TLS errors are OSErrors
            raise Unavailable(f"{address}: {error}") from error
        raise


class ReconnectingConnection:
    """Connects, calls `attach`, and connects again with back-off when the connection is lost.

    A connection is ready only after `attach`, which declares and consumes what its owner needs. If `attach`
    raises Unavailable, the connection counts as failed. Each attempt takes the next address.
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
        """The reason why the last attempt failed or the last connection was lost."""
        self._addresses = addresses
        self._attach = attach
        self._name = name
        self._heartbeat = heartbeat
        self._tls = tls
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"{self._name}: broker connection"
        )

    async def stop(self) -> None:
        """Close the connection and stop reconnecting. Takes about two seconds at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def ready(self) -> Connection:
        """Wait for the connection and return it. The caller bounds the wait."""
        while self.connection is None:
            await self._up.wait()
        return self.connection

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        for address in cycle(self._addresses):
            began, last_problem = loop.time(), self.problem
            try:
                await self._connect_once(address)
            except Unavailable as error:
                self.problem = str(error)
            except Exception as error:  # a defect here must not leave the client disconnected for ever
                log.exception("%s: unexpected error of the broker connection", self._name)
                self.problem = repr(error)
            failures = 0 if loop.time() - began > STABLE_SECONDS else failures + 1
            level = logging.DEBUG if self.problem == last_problem else logging.WARNING
            log.log(level, "%s: no connection to the broker: %s", self._name, self.problem)
            await asyncio.sleep(reconnect_delay(failures))

    async def _connect_once(self, address: Address) -> None:
        """Connect and wait until the connection is lost. Always raises Unavailable."""
        connection = await open_connection(
            address,
            name=self._name,
            heartbeat=self._heartbeat,
            tls=self._tls,
            timeout_seconds=CONNECT_TIMEOUT_SECONDS,
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
                f"{address} did not answer the declarations within {CONNECT_TIMEOUT_SECONDS:g} s"
            ) from None
