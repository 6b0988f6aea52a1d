"""Sends items in batches: items that arrive while a batch is in flight leave together in the next batch.

    submit = Batcher(send, max_batch_size=100)       # async def send(items, deadline) -> outcomes
    account = await submit(item, deadline=...)

A single item leaves at once. The busier the service, the larger the batches, and the cheaper each item.
`batch_schedule` decides when a batch leaves; the Batcher executes the decisions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from nameko_mesh.aio import batch_schedule
from nameko_mesh.aio.batch_schedule import ITERATIONS_TO_SEND, LANES_TAKEN, NOW, Limits, Situation
from nameko_mesh.errors import DeadlineExceeded, Overloaded, RemoteFault, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

Send = Callable[[Sequence[Item], float], Awaitable[Sequence[Result | Exception]]]
"""Sends a batch, with the latest deadline of its items in Unix seconds.

Returns a result or an error for each item, in the order of the items. An error that it raises goes to all.
"""

_NO_OUTCOME: Any = object()


class _Entry(Generic[Item, Result]):
    """An item, and the future that its caller waits for."""

    __slots__ = ("deadline", "future", "item", "outcome")

    def __init__(self, item: Item, deadline: float, future: asyncio.Future[Result | Exception]) -> None:
        self.item = item
        self.deadline = deadline
        self.future = future
        self.outcome: Result | Exception = _NO_OUTCOME
        """Set when the batch has returned, before it is delivered to the caller."""

    def deliver(self) -> None:
        """Give the caller the outcome, or DeadlineExceeded if there is none."""
        if not self.future.done():
            late = DeadlineExceeded("no answer in time")
            self.future.set_result(late if self.outcome is _NO_OUTCOME else self.outcome)


class Batcher(Generic[Item, Result]):
    """Gathers the items of many callers into batches. Belongs to one event loop.

    At most `lanes` batches are in flight, and at most `max_waiting` items wait. If all lanes are taken and no
    batch has left or returned for `stalled_after` seconds, new items are refused. `on_batch` gets the size of
    each batch that leaves.
    """

    def __init__(
        self,
        send: Send[Item, Result],
        *,
        max_batch_size: int = 100,
        max_waiting: int = 1000,
        lanes: int = 1,
        stalled_after: float = inf,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._send = send
        self._limits = Limits(max_batch_size, max_waiting, lanes, stalled_after)
        self._on_batch = on_batch
        self._pace = 0.0
        self._moved_at = 0.0
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._in_flight: dict[asyncio.Task[Sequence[Result | Exception]], tuple[float, int]] = {}
        """When each batch left, by the loop's clock, and its size."""
        self._is_leaving = False
        """True from the decision that a batch leaves until it leaves, at the end of the iteration."""
        self._timer: asyncio.TimerHandle | None = None
        """Set while the waiting items wait for more items."""

    async def __call__(self, item: Item, deadline: float) -> Result:
        """Return the result of the item. `deadline` is in Unix seconds.

        An item whose caller is cancelled before the batch leaves is not sent.

        Raises Overloaded if too many items wait, or so many that this item would be answered too late;
        Unavailable if the batches in flight are stalled; DeadlineExceeded if the deadline has passed; and the
        error that came back for this item.
        """
        seconds_left = deadline - time.time()
        if seconds_left <= 0:
            raise DeadlineExceeded("the deadline had passed before the item was sent")
        loop = asyncio.get_running_loop()
        self._check_admission(loop, seconds_left)
        future: asyncio.Future[Result | Exception] = loop.create_future()
        entry = _Entry(item, deadline, future)
        self._waiting.append(entry)
        self._schedule(loop)
        timer = loop.call_later(seconds_left, entry.deliver)
        try:
            outcome = await future
        finally:
            timer.cancel()
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                # Break the cycle of error, traceback and frame, which only the garbage collector would end.
                del outcome, future, entry
        return outcome

    async def stop(self) -> None:
        """Wait for the batches in flight, which end by their deadlines. Submit no item meanwhile."""
        while self._in_flight or self._is_leaving:
            await (asyncio.wait(self._in_flight) if self._in_flight else asyncio.sleep(0))
        for _ in range(ITERATIONS_TO_SEND):  # the results of the last batch may not be delivered yet
            await asyncio.sleep(0)

    def _check_admission(self, loop: asyncio.AbstractEventLoop, seconds_left: float) -> None:
        situation = self._situation(loop)
        if batch_schedule.is_full(situation, self._limits, seconds_left):
            self._remove_abandoned()
            situation = self._situation(loop)
            if batch_schedule.is_full(situation, self._limits, seconds_left):
                raise Overloaded(f"{situation.waiting} items are waiting: there would be no answer in time")
        if batch_schedule.is_stalled(situation, self._limits):
            raise Unavailable(
                f"the batches in flight have had no answer for {self._limits.stalled_after:g} s"
            )

    def _situation(self, loop: asyncio.AbstractEventLoop) -> Situation:
        in_flight = self._in_flight.values()
        return Situation(loop.time(), len(self._waiting), in_flight, self._moved_at, self._pace)

    def _remove_abandoned(self) -> None:
        """Remove the items whose callers have given up, because they must not take the places of new
        items."""
        self._waiting = deque(entry for entry in self._waiting if not entry.future.done())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the waiting items leave as the schedule decides.

        A batch leaves at the end of the loop's iteration, with the items that other sockets bring
        in this iteration.
        """
        if self._is_leaving:
            return
        leaves_at = batch_schedule.next_batch(self._situation(loop), self._limits)
        if leaves_at == NOW:
            self._is_leaving = True
            loop.call_soon(self._leave, loop)
        elif leaves_at != LANES_TAKEN and self._timer is None:
            self._timer = loop.call_at(leaves_at, self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiting:
            self._schedule(loop)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_leaving = False
        batch = self._take_batch()
        if not batch:
            return
        self._moved_at = loop.time()
        task = loop.create_task(self._outcomes(batch, loop))
        self._in_flight[task] = self._moved_at, len(batch)
        task.add_done_callback(partial(self._on_returned, batch))
        if self._waiting:
            self._schedule(loop)
        self._on_batch(len(batch))

    def _take_batch(self) -> list[_Entry[Item, Result]]:
        batch: list[_Entry[Item, Result]] = []
        while self._waiting and len(batch) < self._limits.max_batch_size:
            entry = self._waiting.popleft()
            if not entry.future.done():
                batch.append(entry)
        return batch

    def _on_returned(
        self, batch: Sequence[_Entry[Item, Result]], task: asyncio.Task[Sequence[Result | Exception]]
    ) -> None:
        loop = task.get_loop()
        del self._in_flight[task]
        self._moved_at = loop.time()
        if self._waiting:
            self._schedule(loop)
        if not task.cancelled():
            for entry, outcome in zip(batch, task.result(), strict=True):
                entry.outcome = outcome
            _deliver(batch, loop, batch_schedule.iterations_before_delivery(self._is_leaving))

    async def _outcomes(
        self, batch: Sequence[_Entry[Item, Result]], loop: asyncio.AbstractEventLoop
    ) -> Sequence[Result | Exception]:
        """Send the batch and return an outcome for each item. Never raises an Exception."""
        began = loop.time()
        try:
            outcomes = await self._send(
                [entry.item for entry in batch], max(entry.deadline for entry in batch)
            )
            if len(outcomes) != len(batch):
                raise RemoteFault("MalformedAnswer", f"{len(outcomes)} answers for {len(batch)} items")
            if len(batch) == self._limits.max_batch_size:
                self._measure_pace(len(batch) / max(loop.time() - began, 1e-6))
        except Exception as error:  # concerns these items, and no later batch
            size = len(batch)
            del batch  # breaks a cycle, as in `__call__`: the batch leads to the error
            return [error] * size
        return outcomes

    def _measure_pace(self, pace: float) -> None:
        self._pace = (self._pace + pace) / 2 if self._pace else pace


def _deliver(batch: Sequence[_Entry[Any, Any]], loop: asyncio.AbstractEventLoop, turns: int) -> None:
    """Deliver the outcomes after `turns` iterations of the loop."""
    if turns:
        loop.call_soon(_deliver, batch, loop, turns - 1)
        return
    for entry in batch:
        entry.deliver()
