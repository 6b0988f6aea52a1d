"""Natural batching: what arrives while a batch is under way waits, and leaves together with the next.

    place = Batcher(send, max_batch_size=100)          # async def send(items, deadline) -> outcomes
    order = await place(item, deadline=...)

Alone, an item leaves at once. The busier the other side, the larger the batches, and the less each item
costs it. While others are under way a batch leaves when it is full, or as large as all of them: the first
few who come back from the one before would else leave by themselves, at the cost of a whole batch. Those
that left more than COMPANY_SECONDS ago don't count: who waits takes a free lane beside them.

When a batch is back and the next one may leave, it does so before the answers are dealt out: who gets
them has work to do with each, and the other side would have none meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from nameko_mesh.errors import DeadlineExceeded, Overloaded, RemoteFault, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

COMPANY_SECONDS = 0.2
"""A batch that is under way for longer may be stuck."""

_TURNS_TO_LEAVE = 3
"""Of the event loop, until what leaves is on the wire: its task begins, writes, and what it wrote is sent."""

Send = Callable[[Sequence[Item], float], Awaitable[Sequence[Answer | Exception]]]
"""Carries a batch, with the latest deadline of its items in Unix seconds, and brings an answer or an
error for each item, in their order. What it raises is the answer of all."""


_NOTHING: Any = object()


class _Ticket(Generic[Item, Answer]):
    """One item, and the future of who waits for it. A future that is done needs nothing any more."""

    __slots__ = ("answer", "deadline", "item", "outcome")

    def __init__(self, item: Item, deadline: float, answer: asyncio.Future[Answer | Exception]) -> None:
        self.item = item
        self.deadline = deadline
        self.answer = answer
        self.outcome: Answer | Exception = _NOTHING
        """What has come back for it, and is not dealt out yet."""

    def tell(self) -> None:
        if not self.answer.done():
            late = DeadlineExceeded("no answer in time")
            self.answer.set_result(late if self.outcome is _NOTHING else self.outcome)


class Batcher(Generic[Item, Answer]):
    """Belongs to one event loop. At most `lanes` batches are in flight at once,
    `max_waiting` how many items may wait; `on_batch` is told the size of each batch that leaves. Who
    would have to wait is sent away when nothing has left or come back for `stalled_after` seconds.
    """

    def __init__(
        self,
        send: Send[Item, Answer],
        *,
        max_batch_size: int = 100,
        max_waiting: int = 1000,
        lanes: int = 1,
        stalled_after: float = inf,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._send = send
        self._max_batch_size = max_batch_size
        self._max_waiting = max_waiting
        self._lanes = self._free_lanes = lanes
        self._pace = 0.0
        """Items a second that one lane has carried of late, in full batches; 0 while it is not known."""
        self._stalled_after = stalled_after
        self._moved_at = 0.0
        """When a batch left or came back the last time, by the clock of the loop."""
        self._on_batch = on_batch
        self._waiting: deque[_Ticket[Item, Answer]] = deque()
        self._leaving = False
        self._waking: asyncio.TimerHandle | None = None
        """Set while items wait for company."""
        self._under_way: dict[asyncio.Task[Sequence[Answer | Exception]], tuple[float, int]] = {}
        """When each batch left, and its size."""

    async def __call__(self, item: Item, deadline: float) -> Answer:
        """The item's answer. `deadline` is Unix seconds, the item's own; who is cancelled before the
        batch has left does not travel.

        Raises Overloaded when too many wait, or so many that it would not be its turn in time; Unavailable
        when the batches under way seem to be stuck; DeadlineExceeded when time has run out, and what came
        back for this item.
        """
        left = deadline - time.time()
        if left <= 0:
            raise DeadlineExceeded("the deadline had passed before it was sent")
        if self._is_full(left):
            self._forget_done()
            if self._is_full(left):
                waiting = len(self._waiting)
                raise Overloaded(f"{waiting} are waiting already: it would not be its turn in time")
        loop = asyncio.get_running_loop()
        if self._is_stalled(loop.time()):
            raise Unavailable(f"those before have had no answer for {self._stalled_after:g} s")
        answer: asyncio.Future[Answer | Exception] = loop.create_future()
        ticket = _Ticket(item, deadline, answer)
        self._waiting.append(ticket)
        self._leave_soon(loop)
        timer = loop.call_later(left, ticket.tell)
        try:
            outcome = await answer
        finally:
            timer.cancel()
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome, answer, ticket  # an error that its own traceback holds waits for the collector
        return outcome

    async def stop(self) -> None:
        """Wait for what is under way, which its deadlines bound; nothing may be asked meanwhile."""
        while self._under_way or self._leaving:
            await (asyncio.wait(self._under_way) if self._under_way else asyncio.sleep(0))
        for _ in range(_TURNS_TO_LEAVE):  # of the last the answers may not be dealt out yet
            await asyncio.sleep(0)

    def _is_full(self, left: float) -> bool:
        """Whether there is no room for one more, or no answer to be expected in the seconds that it has
        left, at the pace of the last full batches."""
        waiting = len(self._waiting)
        if waiting >= self._max_waiting:
            return True
        if not self._pace or waiting < self._max_batch_size:
            return False
        return waiting / (self._pace * self._lanes) + self._max_batch_size / self._pace > left

    def _is_stalled(self, now: float) -> bool:
        return not self._free_lanes and now - self._moved_at > self._stalled_after

    def _may_leave(self, now: float) -> bool:
        if not self._free_lanes:
            return False
        company = sum(size for left_at, size in self._under_way.values() if now < left_at + COMPANY_SECONDS)
        return len(self._waiting) >= min(self._max_batch_size, self._max_waiting, company)

    def _leave_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """After this turn of the loop: what came in with it, from other sockets, goes along."""
        if self._leaving:
            return
        now = loop.time()
        if self._may_leave(now):
            self._leaving = True
            loop.call_soon(self._leave)
        elif self._free_lanes and self._waking is None:
            ends = (left_at + COMPANY_SECONDS for left_at, _ in self._under_way.values())
            self._waking = loop.call_at(min(end for end in ends if end > now), self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking = None
        if self._waiting:
            self._leave_soon(loop)

    def _leave(self) -> None:
        self._leaving = False
        batch: list[_Ticket[Item, Answer]] = []
        while self._waiting and len(batch) < self._max_batch_size:
            ticket = self._waiting.popleft()
            if not ticket.answer.done():
                batch.append(ticket)
        if not batch:
            return
        self._free_lanes -= 1
        loop = asyncio.get_running_loop()
        self._moved_at = loop.time()
        task = loop.create_task(self._answers(batch, loop))
        self._under_way[task] = self._moved_at, len(batch)
        task.add_done_callback(partial(self._arrived, batch))
        if self._waiting:
            self._leave_soon(loop)
        self._on_batch(len(batch))

    def _arrived(
        self, batch: Sequence[_Ticket[Item, Answer]], task: asyncio.Task[Sequence[Answer | Exception]]
    ) -> None:
        loop = task.get_loop()
        del self._under_way[task]
        self._moved_at = loop.time()
        self._free_lanes += 1
        if self._waiting:
            self._leave_soon(loop)
        if not task.cancelled():
            for ticket, answer in zip(batch, task.result(), strict=True):
                ticket.outcome = answer
            _deal_out(batch, loop, after=_TURNS_TO_LEAVE if self._leaving else 0)

    async def _answers(
        self, batch: Sequence[_Ticket[Item, Answer]], loop: asyncio.AbstractEventLoop
    ) -> Sequence[Answer | Exception]:
        began = loop.time()
        try:
            answers = await self._send(
                [ticket.item for ticket in batch], max(ticket.deadline for ticket in batch)
            )
            if len(answers) != len(batch):
                raise RemoteFault("MalformedAnswer", f"{len(answers)} answers for {len(batch)} items")
            if len(batch) == self._max_batch_size:
                pace = len(batch) / max(loop.time() - began, 1e-6)
                self._pace = (self._pace + pace) / 2 if self._pace else pace
        except Exception as error:  # whatever it is concerns all of these, and no later batch
            size = len(batch)
            del batch  # for the same reason: it leads to the error
            return [error] * size
        return answers

    def _forget_done(self) -> None:
        """Who gave up in the queue holds no place against those who come."""
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.answer.done())


def _deal_out(batch: Sequence[_Ticket[Any, Any]], loop: asyncio.AbstractEventLoop, after: int) -> None:
    """After so many turns of the loop."""
    if after:
        loop.call_soon(_deal_out, batch, loop, after - 1)
        return
    for ticket in batch:
        ticket.tell()
