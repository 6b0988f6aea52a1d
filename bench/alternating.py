"""A client that sends requests to several hosts in turns, so that a busy machine slows them alike."""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count

from bench.load import RUN_LENGTH, Load
from bench.wrk import LoadFailed

_TIMEOUT_SECONDS = 30.0
_LENGTH = b"\r\ncontent-length:"


class Alternating:
    """Keeps a connection to each host. The order of the hosts is random in each turn."""

    def __init__(self, loads: Mapping[str, Load]) -> None:
        self._loads = loads
        self._run = f"bench-{secrets.token_hex(8)}"[:RUN_LENGTH]
        self._numbers = count(1)
        self._open = ExitStack()
        self._sockets: dict[str, socket.socket] = {}

    def __enter__(self) -> Alternating:
        for name, load in self._loads.items():
            host, _, port = load.host.partition(":")
            connected = socket.create_connection((host, int(port)), _TIMEOUT_SECONDS)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[name] = self._open.enter_context(connected)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def latencies(self, seconds: float) -> dict[str, list[float]]:
        """Send requests for `seconds`. Return the seconds until each response, as many for each name.

        Raises LoadFailed for a response with another status.
        """
        latencies: dict[str, list[float]] = {name: [] for name in self._loads}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name in random.sample(list(latencies), len(latencies)):
                latencies[name].append(self._send(name))
        return latencies

    def _send(self, name: str) -> float:
        load, number = self._loads[name], next(self._numbers)
        head, tail = load.templates[number % len(load.templates)]
        request = f"{head}{self._run}{number:010}{tail}".encode()
        began = time.perf_counter()
        self._sockets[name].sendall(request)
        response = _read(self._sockets[name])
        seconds = time.perf_counter() - began
        if response.split(b" ", 2)[1] != load.good_status.encode():
            raise LoadFailed(f"{name}: {response[:500]!r}")
        return seconds


def _read(connected: socket.socket) -> bytes:
    response = connected.recv(65536)
    while (stop := response.find(b"\r\n\r\n")) < 0 or len(response) < stop + 4 + _length(response[:stop]):
        more = connected.recv(65536)
        if not more:
            raise LoadFailed(f"the connection ended within a response: {response[:500]!r}")
        response += more
    return response


def _length(head: bytes) -> int:
    start = head.lower().find(_LENGTH)
    return int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0]) if start >= 0 else 0
