"""The stage of a row: the mesh, its customers, its faults, and the check at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx
import sqlalchemy as sa

from tests.chaos import checker
from tests.chaos.books import Books
from tests.chaos.cast import REQUEST_SECONDS, Cast
from tests.chaos.customers import Shop
from tests.chaos.faults import Faults
from tests.chaos.history import History
from tests.chaos.mesh import Mesh

T = TypeVar("T")

TERMINAL_SECONDS = 30.0
"""Every order ends within this time after the last fault: the promise."""
PENDING_SECONDS = 45.0
"""An order that is pending this long has broken the promise, so the row stops waiting."""
POLL_SECONDS = 0.3
GRACE_SECONDS = 3.0
"""A finding that stays this long, while nothing changes any more, is final."""
QUIET_SECONDS = 120.0
"""Outboxes, mails and queues are empty within this time. Leases of dead processes have to expire first."""


@dataclass
class Stage:
    mesh: Mesh
    shop: Shop
    faults: Faults
    rng: Random
    is_short: bool
    folder: Path
    findings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Measurements of the row for the report, by name."""
    terminal_seconds: float | None = None
    """Longest recovery since the last `judge`: from the end of a fault until all orders had ended."""
    recovery_seconds: float | None = None
    """Longest recovery of the whole row."""
    _watched: float | None = None
    """End of the last fault whose recovery is measured."""
    is_broken: bool = False
    books: Books = field(init=False)
    """The books that `judge` has read last."""
    meant_to_be_parked: set[str] = field(default_factory=set)

    @property
    def history(self) -> History:
        return self.shop.history

    def choose(self, full: T, short: T) -> T:
        return short if self.is_short else full

    def expect(self, holds: bool, finding: str) -> None:
        """Note a broken promise and go on, so that the row shows all of them."""
        if not holds:
            self.findings.append(finding)

    def read_books(self) -> Books:
        """Read the present books of this row's products."""
        return Books.of(self.mesh, self.shop.put_in)

    async def mesh_is_ready(self) -> None:
        await asyncio.to_thread(self.mesh.wait_until_ready)

    async def watch_the_pending(self) -> None:
        """Measure the time from the end of the last fault until all orders pending then have ended.

        Call it right after the fault. A second call for the same fault does nothing.
        """
        if self._watched == self.faults.ended_at or (self.terminal_seconds or 0.0) > TERMINAL_SECONDS:
            return
        await asyncio.to_thread(self._watch_the_pending)

    def _watch_the_pending(self) -> None:
        waiting: set[str] | None = None
        since = self.faults.ended_at
        while waiting is None or (waiting and time.monotonic() < since + PENDING_SECONDS):
            with suppress(sa.exc.SQLAlchemyError):  # the database is still restarting
                pending = set(self.read_books().pending)
                waiting = pending if waiting is None else waiting & pending
            time.sleep(POLL_SECONDS)
        self.terminal_seconds = max(time.monotonic() - since, self.terminal_seconds or 0.0)
        self._watched = since

    async def judge(self) -> None:
        """Disarm the failpoints, wait until nothing changes any more, and compare history and books."""
        self.faults.points.disarm()
        if self.terminal_seconds is None:
            await self.watch_the_pending()
        await asyncio.to_thread(self._wait_for_rest)
        self.books = await asyncio.to_thread(self.read_books)
        self.findings += checker.findings(self.history, self.books, self.shop.put_in)
        self.findings += await asyncio.to_thread(self._queued)
        took, self.terminal_seconds = self.terminal_seconds or 0.0, None
        self.recovery_seconds = max(took, self.recovery_seconds or 0.0)
        self.expect(
            took <= TERMINAL_SECONDS,
            f"orders were pending {took:.0f} s after the last fault, not {TERMINAL_SECONDS:.0f} s at most",
        )

    def _wait_for_rest(self) -> None:
        """Wait until all is done, or the time is over: `judge` reports what is left."""
        began = time.monotonic()
        rested_at: float | None = None
        while time.monotonic() < began + QUIET_SECONDS:
            try:
                books = self.read_books()
                moving = list(checker.everything_has_ended(books)) or self.mesh.unready() or self._queued()
            except (sa.exc.SQLAlchemyError, OSError, AssertionError):  # a process is still restarting
                time.sleep(POLL_SECONDS)
                continue
            if books.pending and time.monotonic() > began + PENDING_SECONDS:
                return
            if not moving:
                rested_at = rested_at or time.monotonic()
                is_sound = not checker.findings(self.history, books, self.shop.put_in)
                if is_sound or time.monotonic() > rested_at + GRACE_SECONDS:
                    self.figures["all at rest after"] = f"{rested_at - self.faults.ended_at:.1f} s"
                    return
            time.sleep(POLL_SECONDS)

    def _queued(self) -> list[str]:
        return list(checker.queues_are_empty(self.faults.broker.queues(), self.meant_to_be_parked))


@asynccontextmanager
async def a_stage(
    mesh: Mesh, cast: Cast, history: History, rng: Random, is_short: bool, folder: Path
) -> AsyncIterator[Stage]:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=mesh.gateway_url, timeout=REQUEST_SECONDS, limits=limits) as http:
        shop = Shop(http, cast, history, rng)
        yield Stage(mesh, shop, Faults(mesh), rng, is_short, folder)


async def all_of(tasks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently. The first exception cancels the others."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(task) for task in tasks]
    return [task.result() for task in running]


async def at_once(tasks: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run coroutines concurrently, without a result."""
    await all_of(tasks)
