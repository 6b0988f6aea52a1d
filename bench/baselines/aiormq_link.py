"""Keeps a connection of aiormq to the broker, as nameko_mesh.aio.amqp.reconnecting keeps its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import cycle
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError
from yarl import URL

from nameko_mesh.aio.amqp.reconnecting import CONNECT_TIMEOUT_SECONDS, MAX_BACKOFF_SECONDS, reconnect_delay

READ_BYTES = 1024 * 1024
"""The buffer of the socket. With asyncio's default, reading a large batch stops and starts."""
FRAMES = 1000
"""Frames that wait between aiormq's two reading tasks, instead of its default of 10."""
CLOSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class AiormqLink:
    """Connects and calls `attach` with a channel, again with back-off when the connection is lost."""

    def __init__(
        self, uris: str, attach: Callable[[AbstractChannel], Awaitable[None]], *, name: str, heartbeat: int
    ) -> None:
        self.problem = "not connected yet"
        self._urls = [_url(uri.strip(), name, heartbeat) for uri in uris.split(";")]
        self._attach = attach
        self._name = name
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def ready(self) -> None:
        await self._up.wait()

    async def _run(self) -> None:
        loop, attempt = asyncio.get_running_loop(), 0
        for url in cycle(self._urls):
            began = loop.time()
            try:
                await self._connect_once(url)
            except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
                self.problem = str(error) or repr(error)
            attempt = 0 if loop.time() - began > MAX_BACKOFF_SECONDS else attempt + 1
            log.warning("%s: no connection to the broker: %s", self._name, self.problem)
            await asyncio.sleep(reconnect_delay(attempt))

    async def _connect_once(self, url: URL) -> None:
        """Return when the connection or its channel is lost."""
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            connection = await aiormq.connect(url, limit=READ_BYTES)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                channel = await connection.channel(publisher_confirms=False, frame_buffer_size=FRAMES)
                await self._attach(channel)
            log.info("%s: connected over aiormq", self._name)
            self._up.set()
            closing = channel.closing
            await asyncio.wait([closing])
            self.problem = why(closing)
        finally:
            self._up.clear()
            with suppress(TimeoutError):
                await connection.close(timeout=CLOSE_SECONDS)


def why(closed: asyncio.Future[Any]) -> str:
    error = None if closed.cancelled() else closed.exception()
    return f"the connection was lost: {error!r}" if error else "the connection was closed"


def _url(uri: str, name: str, heartbeat: int) -> URL:
    url = URL(uri.replace("pyamqp://", "amqp://", 1))
    return url.update_query({"name": name, "heartbeat": url.query.get("heartbeat", str(heartbeat))})
