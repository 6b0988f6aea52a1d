"""Passes committed outbox rows to the relay of the same process, in memory.

`outbox.transaction` offers the rows after the commit, and `outbox.relay` takes them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from nameko_mesh.outbox.insertion import CLAIM
from nameko_mesh.outbox.rows import OutboxRow

MAX_ROWS_IN_MEMORY = 1000
"""Limit of the rows that wait in memory. Later rows wait in the table alone."""

MAX_EVENTS_TAKEN = 500
"""Limit of the events that the relay takes at once. So many fill a few messages."""


class ClaimsLost(Exception):
    """The rows in memory can't be published: their claim expires soon, or a commit's outcome is unknown."""


class Handoff:
    """Keeps rows that this process has claimed and committed, and wakes its relay.

    `claimant` is the name under which new rows are claimed. The name is None while no relay runs here, or
    while the relay can't publish. New rows are then left for any relay to find.
    """

    def __init__(self) -> None:
        self.claimant: str | None = None
        self._rows: deque[tuple[float, OutboxRow]] = deque()
        self._awake = threading.Event()
        self._has_unclaimed = False
        self._has_unknown_outcome = False

    @property
    def has_room(self) -> bool:
        return len(self._rows) < MAX_ROWS_IN_MEMORY

    @property
    def is_full_batch(self) -> bool:
        """True when as many events wait as the relay takes at once."""
        return sum(row.size for _, row in self._rows) >= MAX_EVENTS_TAKEN

    def offer(self, rows: Sequence[OutboxRow], claimant: str | None, *, has_unclaimed: bool) -> None:
        """Hand over committed rows that were claimed under `claimant`.

        With `has_unclaimed` the transaction also wrote rows without a claim. The relay must search for them.
        """
        if claimant == self.claimant:
            now = time.monotonic()
            self._rows.extend((now, row) for row in rows)
        self._has_unclaimed = self._has_unclaimed or has_unclaimed
        self.wake()

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
        if self._rows and self._rows[0][0] < time.monotonic() - CLAIM.total_seconds() / 2:
            raise ClaimsLost("rows waited too long for the relay")
        taken: list[OutboxRow] = []
        while self._rows and max_events > 0:
            taken.append(self._rows.popleft()[1])
            max_events -= taken[-1].size
        return sorted(taken)  # two threads may have offered their rows in another order than they committed

    def rename_claimant(self, claimant: str | None) -> list[OutboxRow]:
        """Claim new rows under another name. Return the rows in memory, which are given up here.

        The same name changes nothing. None always gives the rows up, because after an unknown outcome the
        claimant is None already, and the rows in memory may be newer than events of the lost commit.
        """
        if claimant is not None and claimant == self.claimant:
            return []
        self.claimant = claimant
        given_up = [row for _, row in self._rows]
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
