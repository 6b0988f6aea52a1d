"""HTTP/1.1 for a load generator: GET over connections that are used again, at a tenth of a library's cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

IDLE_SECONDS = 2.0
"""Servers close what is idle for longer: a connection must not be used again just then."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]


class PlainHttp:
    """Of one server. Raises OSError or EOFError when a connection breaks, TimeoutError after `seconds`."""

    def __init__(self, url: str, seconds: float = 5.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._seconds = seconds
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        async with asyncio.timeout(self._seconds):
            reader, writer = await self._connection()
            try:
                lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode())
                answer = await _read(reader)
            except BaseException:
                writer.close()
                raise
        if answer.headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((time.monotonic(), reader, writer))
        return answer

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


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(first.split()[1]), headers)
