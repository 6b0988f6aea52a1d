"""Passes committed outbox rows to the relay of the same process, in memory.

`outbox.transaction` offers the rows after the commit, and `outbox.relay` takes them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nameko_mesh.outbox.insertion import CLAIM
from nameko_mesh.outbox.rows import OutboxRow

MAX_ROWS_IN_MEMORY = 1000
"""Limit of the rows that wait in memory. Later rows wait in the table alone."""

MAX_EVENTS_TAKEN = 500
"""Limit of the events that the relay takes at once. So many fill a few messages."""


class ClaimsLost(Exception):
    """The rows in memory can't be published: their claim expires soon, or a commit's outcome is unknown."""


class PendingCommit:
    """A commit without an answer, and the aggregates of its rows."""

    def __init__(self, aggregate_ids: Iterable[str]) -> None:
        self.aggregate_ids = frozenset(aggregate_ids)
        self.has_ended = False


class _Waiting(NamedTuple):
    """A committed row, and the pending commits of its aggregates, which may be older."""

    since: float
    row: OutboxRow
    older_commits: list[PendingCommit]

    @property
    def must_wait(self) -> bool:
        return not all(commit.has_ended for commit in self.older_commits)


class Handoff:
    """Keeps rows that this process has claimed and committed, and wakes its relay.

    `claimant` is the name under which new rows are claimed. The name is None while no relay runs here, or
    while the relay can't publish. New rows are then left for any relay to find.
    """

    def __init__(self) -> None:
        self.claimant: str | None = None
        self._rows: deque[_Waiting] = deque()
        self._pending_commits: list[PendingCommit] = []
        self._awake = threading.Event()
        self._has_unclaimed = False
        self._has_unknown_outcome = False

    @property
    def has_room(self) -> bool:
        return len(self._rows) < MAX_ROWS_IN_MEMORY

    @property
    def is_full_batch(self) -> bool:
        """True when as many events wait as the relay takes at once."""
        return sum(waiting.row.size for waiting in self._rows) >= MAX_EVENTS_TAKEN

    def begin_commit(self, aggregate_ids: Iterable[str]) -> PendingCommit:
        """Announce rows before they are committed. `end_commit` must follow, whatever the outcome.

        The answers to two commits may arrive in another order than the commits took effect. The rows of the
        later commit then wait here.
        """
        commit = PendingCommit(aggregate_ids)
        self._pending_commits.append(commit)
        return commit

    def end_commit(self, commit: PendingCommit) -> None:
        """Release the rows that waited for the outcome of this commit."""
        self._pending_commits.remove(commit)
        commit.has_ended = True
        self.wake()

    def offer(self, rows: Sequence[OutboxRow], claimant: str | None, *, has_unclaimed: bool) -> None:
        """Hand over committed rows that were claimed under `claimant`.

        With `has_unclaimed` the transaction also wrote rows without a claim. The relay must search for them.
        """
        if claimant == self.claimant:
            now = time.monotonic()
            self._rows.extend(_Waiting(now, row, self._pending_commits_of(row)) for row in rows)
        self._has_unclaimed = self._has_unclaimed or has_unclaimed
        self.wake()

    def _pending_commits_of(self, row: OutboxRow) -> list[PendingCommit]:
        return [
            commit
            for commit in self._pending_commits
            if not commit.aggregate_ids.isdisjoint(row.aggregate_ids)
        ]

    def outcome_unknown(self, claimant: str) -> None:
        """Stop claiming under this name, because a commit's outcome is unknown.

        Its events may be committed and unsent. Newer events under the same name could be published first.
        """
        if claimant == self.claimant:
            self.claimant = None
            self._has_unknown_outcome = True
            self.wake()

    def take(self, max_events: int) -> list[OutboxRow]:
        """Take the oldest rows, up to `max_events` events.

        Raises ClaimsLost when the rows can't be published under their claim. Then call `rename_claimant`,
        which gives the rows up.
        """
        has_unknown_outcome, self._has_unknown_outcome = self._has_unknown_outcome, False
        if has_unknown_outcome:
            raise ClaimsLost("the outcome of a commit is unknown")
        limit = time.monotonic() - CLAIM.total_seconds() / 2
        if any(waiting.since < limit for waiting in self._rows):
            raise ClaimsLost("rows waited too long for the relay")
        return self._take_ready(max_events)

    def _take_ready(self, max_events: int) -> list[OutboxRow]:
        """Take rows in the order of the table, because commits may be answered in another order."""
        taken: list[OutboxRow] = []
        left: list[_Waiting] = []
        left_ids: set[str] = set()
        for waiting in sorted(self._rows, key=lambda waiting: waiting.row.seq):
            row = waiting.row
            if max_events <= 0 or waiting.must_wait or not left_ids.isdisjoint(row.aggregate_ids):
                left.append(waiting)
                left_ids |= row.aggregate_ids
            else:
                taken.append(row)
                max_events -= row.size
        self._rows = deque(left)
        return taken

    def rename_claimant(self, claimant: str | None) -> list[OutboxRow]:
        """Claim new rows under another name. Return the rows in memory, which are given up here.

        The same name changes nothing. None always gives the rows up, because after an unknown outcome the
        claimant is None already, and the rows in memory may be newer than events of the lost commit.
        """
        if claimant is not None and claimant == self.claimant:
            return []
        self.claimant = claimant
        given_up = [waiting.row for waiting in self._rows]
        self._rows.clear()
        return given_up

    def take_unclaimed_flag(self) -> bool:
        """Return True if unclaimed rows were committed since the last call."""
        has_unclaimed, self._has_unclaimed = self._has_unclaimed, False
        return has_unclaimed

    def wake(self) -> None:
        self._awake.set()

    def wait(self, seconds: float) -> None:
        """Wait until `wake` is called, or was called since the last wait; `seconds` at most."""
        self._awake.wait(seconds)
        self._awake.clear()
