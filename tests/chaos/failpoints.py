"""Things to go wrong at an exact line of a service, and the note that they did.

A folder is all that the harness and the services share (CHAOS_FOLDER):

    armed/orders.commit.before/3f2a-exit    one file is one use; who unlinks it has it, so that of two
                                            instances one alone is hit
    hits.log                                point, action and pid of each use
    executions.log                          every message that a service began to work on
    mutants                                 names of sabotages (see `mutants`), read at the start

Actions: `exit` (at once, as if killed), `raise`, `unavailable`, `sleep=SECONDS`, `hang`.
Imported by services after eventlet has patched the process: no asyncio here.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from nameko_mesh.errors import Unavailable

EXIT_CODE = 137
FOR_EVER = 10**6


class Failpoints:
    """One folder, from either side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._armed = folder / "armed"

    def arm(self, point: str, action: str, uses: int = 1) -> None:
        where = self._armed / point
        where.mkdir(parents=True, exist_ok=True)
        for _ in range(uses):
            (where / f"{uuid.uuid4().hex}-{action}").touch()

    def disarm(self) -> None:
        for use in self._armed.glob("*/*"):
            use.unlink(missing_ok=True)

    def armed(self, point: str = "*") -> int:
        return sum(1 for _ in self._armed.glob(f"{point}/*"))

    def hits(self, point: str | None = None) -> list[tuple[str, str, int]]:
        """Point, action and pid of every use so far, in order."""
        found = [line.split() for line in self._lines("hits.log")]
        return [(one[0], one[1], int(one[2])) for one in found if point in (None, one[0])]

    def executions(self) -> list[tuple[str, str]]:
        """`service.method` and the id of the message, for each time one was begun."""
        pairs = [line.split() for line in self._lines("executions.log")]
        return [(one[0], one[1]) for one in pairs if len(one) == 3]

    def mutants(self) -> list[str]:
        return self._lines("mutants")

    def set_mutants(self, *names: str) -> None:
        (self.folder / "mutants").write_text("".join(f"{name}\n" for name in names))

    def note_execution(self, method: str, message_id: str) -> None:
        self._append("executions.log", f"{method} {message_id} {os.getpid()}")

    def reach(self, point: str) -> None:
        """Called by a service at the point; does what is armed there, if anything is."""
        action = self._take(point)
        if action is None:
            return
        self._append("hits.log", f"{point} {action} {os.getpid()}")
        match action.partition("="):
            case ("exit", _, _):
                os._exit(EXIT_CODE)
            case ("raise", _, _):
                raise RuntimeError(f"failpoint {point}")
            case ("unavailable", _, _):
                raise Unavailable(f"failpoint {point}")
            case ("sleep", _, seconds):
                time.sleep(float(seconds))
            case ("hang", _, _):
                time.sleep(FOR_EVER)

    def _take(self, point: str) -> str | None:
        try:
            uses = os.listdir(self._armed / point)  # noqa: PTH208 - on every commit: the cheap way
        except OSError:
            return None
        for use in uses:
            try:
                (self._armed / point / use).unlink()
            except FileNotFoundError:
                continue  # another process was faster
            return use.partition("-")[2]
        return None

    def _append(self, name: str, line: str) -> None:
        with (self.folder / name).open("ab") as file:  # one short write at the end is atomic
            file.write(f"{line}\n".encode())

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []
