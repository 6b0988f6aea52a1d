"""Holds calls back while the broker takes no messages."""

from __future__ import annotations

import asyncio

from nameko_mesh.errors import Unavailable


class Gate:
    """Open while the broker takes messages.

    A call waits until its deadline, but at most until `patience` seconds after the gate was shut. So callers
    do not notice a short interruption. In a long interruption calls fail at once, and do not accumulate.
    """

    def __init__(self, patience: float) -> None:
        self.is_open = False
        self._patience = patience
        self._reason = "not started"
        self._shut_at = 0.0
        self._changed = asyncio.Event()
        self._for_good = False

    def open(self) -> None:
        if not self._for_good:
            self.is_open = True
            self._changed.set()

    def shut(self, reason: str, *, for_good: bool = False) -> None:
        """Shut the gate. With `for_good` the gate never opens again, and waiting calls fail at once."""
        if self.is_open or not self._shut_at:
            self._shut_at = asyncio.get_running_loop().time()
        self.is_open = False
        self._reason = reason
        self._for_good = self._for_good or for_good
        if self._for_good:
            self._changed.set()
        else:
            self._changed.clear()

    async def wait(self, until: float) -> None:
        """Wait until the gate is open, or until the time `until` of the loop's clock.

        Raises Unavailable, with the reason, before anything is sent.
        """
        loop = asyncio.get_running_loop()
        while not self.is_open:
            give_up = min(until, self._shut_at + self._patience)
            if self._for_good or loop.time() >= give_up:
                raise Unavailable(f"{self._reason} (for {loop.time() - self._shut_at:.1f} s)")
            try:
                async with asyncio.timeout_at(give_up):
                    await self._changed.wait()
            except TimeoutError:
                continue
