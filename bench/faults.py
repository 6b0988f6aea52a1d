"""Inject faults into a running mesh: signals, frozen processes, stopped and added programs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from bench.stacks.mesh import Mesh
from mycelium.diagnostics.instances import list_instances
from mycelium.runner.supervisor import connect, pid_of

START_TIMEOUT_SECONDS = 60.0


class FaultyMesh:
    """A mesh, and the faults to inject into it."""

    def __init__(self, stack: Mesh) -> None:
        self._state = stack.state
        self._settings = stack.state.environment()
        self.url = stack.url

    def pid(self, name: str) -> int:
        return pid_of(self._state, name)

    def signal(self, name: str, number: signal.Signals) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            os.kill(self.pid(name), number)

        return act

    async def calls(self) -> Counter[str]:
        """Return calls so far, by instance of products."""
        rows = await asyncio.to_thread(list_instances, None, None, self._settings["METRICS_URL"])
        return Counter({row.instance: row.calls or 0 for row in rows if row.connected is not None})

    async def freeze(self, seconds: float, *names: str) -> None:
        """Stop processes with SIGSTOP for some seconds."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    async def stop(self, program: str, seconds: float) -> None:
        """Stop a program, and start it again after some seconds."""
        await self.supervise("stopProcess", program)
        await asyncio.sleep(seconds)
        await self.supervise("startProcess", program, False)

    async def add(self, program: str) -> float:
        """Start another instance. Return the seconds from its passing check to its first call."""
        await self.supervise("startProcess", program, False)
        before = set(await self._passing())
        end = time.monotonic() + START_TIMEOUT_SECONDS
        while not (new := set(await self._passing()) - before):
            await self._wait(end)
        passed_at = time.monotonic()
        (instance,) = new
        while not (await self.calls())[instance]:
            await self._wait(end)
        return time.monotonic() - passed_at

    async def _passing(self) -> list[str]:
        rows = await asyncio.to_thread(list_instances, self._settings["CONSUL_HTTP_ADDR"], None, None)
        return [row.instance for row in rows if row.service == "products" and row.checks == "passing"]

    async def supervise(self, method: str, program: str, *arguments: Any) -> None:
        """Call a method of the supervisor."""
        await asyncio.to_thread(getattr(connect(self._state).supervisor, method), program, *arguments)

    async def _wait(self, end: float) -> None:
        if time.monotonic() > end:
            raise TimeoutError("the new instance was not used in time")
        await asyncio.sleep(0.05)
