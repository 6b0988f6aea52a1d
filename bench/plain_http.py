"""A minimal HTTP/1.1 client for a load generator: GET on kept connections, at a tenth of httpx's CPU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

IDLE_SECONDS = 2.0
"""Age at which idle connections are dropped, before the server closes them."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]


class PlainHttp:
    """A client of one server.

    Raises OSError or EOFError when a connection breaks, and TimeoutError after `seconds`.
    """

    def __init__(self, url: str, seconds: float = 5.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._seconds = seconds
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        async with asyncio.timeout(self._seconds):
            reader, writer = await self._connection()
            try:
                lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode())
                response = await _read(reader)
            except BaseException:
                writer.close()
                raise
        if response.headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((time.monotonic(), reader, writer))
        return response

    def close(self) -> None:
        for _, _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)


async def _read(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return Response(int(first.split()[1]), headers)
