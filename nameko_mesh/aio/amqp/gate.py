"""Whether a call may be sent now, and how long to wait when it may not."""

from __future__ import annotations

import asyncio

from nameko_mesh.errors import Unavailable


class Gate:
    """Open while the broker takes messages.

    A call waits for it until its deadline, but no longer than `patience` seconds from when the
    gate was shut: a short break goes unnoticed, and in a long one callers are told at once
    instead of piling up.
    """

    def __init__(self, patience: float) -> None:
        self.is_open = False
        self._patience = patience
        self._why = "not started"
        self._since = 0.0
        self._news = asyncio.Event()
        self._for_good = False

    def open(self) -> None:
        if not self._for_good:
            self.is_open = True
            self._news.set()

    def shut(self, why: str, *, for_good: bool = False) -> None:
        """Shuts the gate. `for_good`: it never opens again, and nobody waits any longer."""
        if self.is_open or not self._since:
            self._since = asyncio.get_running_loop().time()
        self.is_open = False
        self._why = why
        self._for_good = self._for_good or for_good
        if self._for_good:
            self._news.set()
        else:
            self._news.clear()

    async def wait(self, until: float) -> None:
        """Returns when the gate is open; `until` is a time of the loop.

        Raises Unavailable, with the reason. Nothing was sent then.
        """
        loop = asyncio.get_running_loop()
        while not self.is_open:
            give_up = min(until, self._since + self._patience)
            if self._for_good or loop.time() >= give_up:
                raise Unavailable(f"{self._why} (for {loop.time() - self._since:.1f} s)")
            try:
                async with asyncio.timeout_at(give_up):
                    await self._news.wait()
            except TimeoutError:
                continue
