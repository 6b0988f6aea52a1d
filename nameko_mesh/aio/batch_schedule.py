"""Decides when a batch leaves, and which items are refused. Pure functions: no clock and no event loop.

When a batch returns, its callers submit their next items one after the other. The first few items would leave
at once as a small batch, which costs as much as a large batch. So while other batches are in flight, a batch
waits until it is full, or as large as the others together. A batch that is in flight for more than
STUCK_SECONDS does not count, because it may be stuck.

With 3 lanes and batches of at most 100 items:

| items waiting | in flight: seconds ago, size | decision |
|---|---|---|
| 1 | none | leave now |
| 1 | 0.05 s ago, 2 items | wait for 0.15 s, or for a second item |
| 2 | 0.05 s ago, 2 items | leave now |
| 3 | 0.05 s ago, 2 items, and 0.01 s ago, 2 items | wait for 0.15 s, or for a fourth item |
| 1 | 0.30 s ago, 2 items | leave now |
| 100 | 0.05 s ago, 100 items, and 0.01 s ago, 100 items | leave now: the batch is full |
| any | 3 batches | wait for a batch to return |
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

import msgspec

STUCK_SECONDS = 0.2

ITERATIONS_TO_SEND = 3
"""Iterations of the loop until a leaving batch is sent: its task starts, writes, and the socket sends."""

NOW = -inf
"""The decision to leave at once."""
LANES_TAKEN = inf
"""The decision to wait until a batch has returned."""


class Limits(msgspec.Struct, frozen=True):
    """The configuration of a Batcher."""

    max_batch_size: int
    max_waiting: int
    lanes: int
    stalled_after: float
    """Seconds without a batch that leaves or returns, while all lanes are taken. Then no item is accepted."""


class Situation(msgspec.Struct, frozen=True):
    """The state of a Batcher. Times are in seconds, of a clock that never goes back."""

    now: float
    waiting: int
    """Items in the queue."""
    in_flight: Collection[tuple[float, int]]
    """The start and the size of each batch in flight."""
    moved_at: float = 0.0
    """The time when a batch left or returned last."""
    pace: float = 0.0
    """Items per second that one lane carried in the last full batches. 0 if unknown."""


def next_batch(situation: Situation, limits: Limits) -> float:
    """Return the time at which the waiting items may leave: NOW, a moment, or LANES_TAKEN."""
    if len(situation.in_flight) >= limits.lanes:
        return LANES_TAKEN
    ends = [
        (left_at + STUCK_SECONDS, size)
        for left_at, size in situation.in_flight
        if left_at + STUCK_SECONDS > situation.now
    ]
    company = sum(size for _, size in ends)
    if situation.waiting >= min(limits.max_batch_size, limits.max_waiting, company):
        return NOW
    return min(end for end, _ in ends)


def is_full(situation: Situation, limits: Limits, seconds_left: float) -> bool:
    """Return True if another item has no place, or would get no answer in `seconds_left`.

    The time is estimated from the pace of the last full batches, and only if a full batch waits.
    """
    if situation.waiting >= limits.max_waiting:
        return True
    if not situation.pace or situation.waiting < limits.max_batch_size:
        return False
    seconds_in_queue = situation.waiting / (situation.pace * limits.lanes)
    seconds_in_flight = limits.max_batch_size / situation.pace
    return seconds_in_queue + seconds_in_flight > seconds_left


def is_stalled(situation: Situation, limits: Limits) -> bool:
    """Return True if a new item would wait behind batches that seem to be stuck."""
    return (
        len(situation.in_flight) >= limits.lanes and situation.now - situation.moved_at > limits.stalled_after
    )


def iterations_before_delivery(next_is_leaving: bool) -> int:
    """Return the iterations of the loop to wait before callers get the results of a returned batch.

    The callers have work to do with each result. If the next batch is about to leave, the batch goes first,
    because the service would be idle meanwhile. Gain: none is shown. A quiet machine gives 1.00 with one lane
    and with three (`python -m bench.tricks.batches`); busy machines gave 0.7 to 1.4. Delete it unless the
    rate of a whole system shows a gain.

    Example: batch A returns with 64 results while 10 items wait. Batch B with the 10 items is written to its
    socket within three iterations of the loop. Then the callers of A get their results.
    """
    return ITERATIONS_TO_SEND if next_is_leaving else 0
