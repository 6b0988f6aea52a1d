"""Read over HTTP at a steady rate (an open loop: slow responses do not lower it), and record every read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import cycle
from statistics import quantiles

from bench.plain_http import PlainHttp

MAX_TRIES = 4
PAUSE_SECONDS = 0.05
SLOW_SECONDS = 0.3
"""A read that switches to a second instance takes 0.3 s at most. Recovery ends with the last slower read."""


@dataclass(frozen=True, slots=True)
class Read:
    """A read with all its tries. `seconds` is the time until the last response."""

    began: float
    seconds: float
    statuses: tuple[int, ...]
    """The status of each try; 0 for a broken connection."""
    is_copy: bool
    """The response was a cached copy, because no instance answered."""

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def failed(self) -> bool:
        return self.statuses[-1] != 200


@dataclass(slots=True)
class Phase:
    """The reads during a fault, and a line of the table."""

    name: str
    reads: list[Read] = field(default_factory=list)
    facts: str = ""

    def row(self, fault_at: float) -> tuple[str, ...]:
        times = sorted(read.seconds for read in self.reads)
        failed = sum(read.failed for read in self.reads)
        retried = sum(len(read.statuses) > 1 for read in self.reads)
        trouble = [
            read.ended - fault_at
            for read in self.reads
            if read.failed or (read.ended > fault_at and read.seconds > SLOW_SECONDS)
        ]
        median, p99 = (round(1000 * quantiles(times, n=100)[at]) for at in (49, 98))
        recovered = f"{max(trouble):.2f} s" if trouble else "at once"
        figures = (len(times), failed, retried, f"{median} ms", f"{p99} ms", f"{1000 * times[-1]:.0f} ms")
        return (self.name, *map(str, figures), recovered, self.facts)


class Customer:
    """Reads paths of a mesh in turn, at `rate` reads per second."""

    def __init__(self, http: PlainHttp, rate: float, *paths: str, **headers: str) -> None:
        self._http = http
        self._rate = rate
        self._headers = headers
        self._paths = cycle(paths)

    async def during(self, phase: Phase, act: Callable[[], Awaitable[None]], seconds: float) -> float:
        """Read until `act` is done and `seconds` have passed. Return the time when `act` began."""
        reading: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        acting = asyncio.create_task(act())
        started = 0
        while time.monotonic() < began + seconds or not acting.done():
            task = asyncio.create_task(self._read(phase))
            reading.add(task)
            task.add_done_callback(reading.discard)
            started += 1
            await asyncio.sleep(max(0.0, began + started / self._rate - time.monotonic()))
        await asyncio.gather(acting, *reading)
        return began

    async def _read(self, phase: Phase) -> None:
        path = next(self._paths)
        began = time.monotonic()
        statuses: list[int] = []
        is_copy = False
        pause = 0.0
        while len(statuses) < MAX_TRIES:
            await asyncio.sleep(pause)
            pause = PAUSE_SECONDS * (len(statuses) + 1)
            try:
                response = await self._http.get(path, self._headers)
                statuses.append(response.status)
                is_copy = "age" in response.headers
                pause = float(response.headers.get("retry-after", pause))
            except (OSError, EOFError, TimeoutError):
                statuses.append(0)
            if statuses[-1] not in (0, 503):
                break
        phase.reads.append(Read(began, time.monotonic() - began, tuple(statuses), is_copy))
