"""Faults injected into the mesh. Each is counted, and the end of the last fault is noted."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.broker import Broker
from tests.chaos.failpoints import Failpoints
from tests.chaos.mesh import Mesh
from tests.waiting import eventually_in_thread

UP_SECONDS = 90.0
LEAVE_SECONDS = 60.0


class Faults:
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.points = Failpoints(mesh.chaos)
        self.broker = Broker(mesh)
        self.counts: Counter[str] = Counter()
        self.ended_at = time.monotonic()

    def count(self, fault: str, times: int = 1) -> None:
        self.counts[fault] += times
        self.are_over()

    def are_over(self) -> None:
        """Note the end of the last fault. The recovery is measured from now on."""
        self.ended_at = time.monotonic()

    async def kill(self, name: str) -> None:
        """Send SIGKILL to a process as soon as it is ready."""
        await self.wait_until_up(name)
        await asyncio.to_thread(self.mesh.signal, name, signal.SIGKILL)
        self.count(f"kill -9 {_kind(name)}")

    async def wait_until_up(self, name: str) -> float:
        """Wait until the process is ready. Return the seconds that it took.

        The supervisor reports RUNNING only some time after the start.
        """
        began = time.monotonic()

        def is_up() -> bool:
            return self.mesh.process(name).state == "RUNNING" and self.mesh.answers(name)

        await eventually_in_thread(is_up, UP_SECONDS, f"{name} being ready")
        return time.monotonic() - began

    async def kill_server(self, name: str) -> None:
        """Send SIGKILL to a broker, database or registry. The supervisor restarts it."""
        await eventually_in_thread(
            lambda: self.mesh.process(name).state == "RUNNING", UP_SECONDS, f"{name} running"
        )
        await asyncio.to_thread(self.mesh.signal, name, signal.SIGKILL)
        self.count(f"kill -9 {name}")

    async def terminate(self, name: str) -> float:
        """Send SIGTERM and wait for the exit. Return the seconds that it took."""
        began = time.monotonic()
        pid = await asyncio.to_thread(self.mesh.signal, name, signal.SIGTERM)
        await eventually_in_thread(
            lambda: self.mesh.process(name).pid != pid, LEAVE_SECONDS, f"the exit of {name}"
        )
        self.count(f"SIGTERM {_kind(name)}")
        return time.monotonic() - began

    @asynccontextmanager
    async def frozen(self, *names: str) -> AsyncIterator[None]:
        """Freeze processes and their children with SIGSTOP until the end of the block."""
        pids = [self.mesh.process(name).pid for name in names]
        for name, pid in zip(names, pids, strict=True):
            self.mesh.signal_tree(pid, signal.SIGSTOP)
            self.count(f"SIGSTOP {_kind(name)}")
        try:
            yield
        finally:
            for pid in pids:
                self.mesh.signal_tree(pid, signal.SIGCONT)
            self.are_over()

    @asynccontextmanager
    async def stopped(self, *names: str) -> AsyncIterator[None]:
        """Stop processes by the supervisor, and start them again at the end of the block."""
        for name in names:
            await asyncio.to_thread(self.mesh.stop_process, name)
            self.count(f"stop {_kind(name)}")
        try:
            yield
        finally:
            for name in names:
                await asyncio.to_thread(self.mesh.start_process, name)
            self.are_over()

    @asynccontextmanager
    async def memory_alarm(self) -> AsyncIterator[None]:
        """Raise the broker's memory alarm, so that it takes no messages until the end of the block."""
        await asyncio.to_thread(self.broker.alarm, True)
        self.count("memory alarm")
        try:
            yield
        finally:
            await asyncio.to_thread(self.broker.alarm, False)
            self.are_over()

    async def hit(self, point: str, action: str, seconds: float = 60.0) -> int:
        """Arm a failpoint once and wait until it is used. Return the pid of the process that used it."""
        before = len(self.points.hits(point))
        self.points.arm(point, action)
        await eventually_in_thread(
            lambda: len(self.points.hits(point)) > before, seconds, f"a use of {point}"
        )
        self.count(f"{action.partition('=')[0]} at {point}")
        return self.points.hits(point)[before][2]


def _kind(name: str) -> str:
    """Return the service of an instance: `orders` for `orders-2`."""
    return name.rstrip("0123456789").rstrip("-")
