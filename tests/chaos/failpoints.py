"""Faults at an exact line of a service, and the log of their uses.

The harness and the services share a folder (CHAOS_FOLDER):

    armed/orders.commit.before/3f2a-exit    a file for each use; the process that unlinks it uses it, so
                                            that only one of several instances is hit
    hits.log                                point, action and pid of each use
    executions.log                          every message that a service began to handle
    mutants                                 names of mutants, read at the start of a service

Actions: `exit` (at once, as if killed), `raise`, `unavailable`, `sleep=SECONDS`, `hang`.
Services import this module after eventlet has patched the process, so it must not import asyncio.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from nameko_mesh.errors import Unavailable

EXIT_CODE = 137
FOREVER_SECONDS = 10**6


class Failpoints:
    """The shared folder, for the harness and for a service."""

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
        """Return point, action and pid of every use so far, in order."""
        hits = [line.split() for line in self._lines("hits.log")]
        return [(name, action, int(pid)) for name, action, pid in hits if point in (None, name)]

    def executions(self) -> list[tuple[str, str]]:
        """Return `service.method` and the message id of each execution."""
        lines = [line.split() for line in self._lines("executions.log")]
        return [(fields[0], fields[1]) for fields in lines if len(fields) == 3]

    def mutants(self) -> list[str]:
        return self._lines("mutants")

    def set_mutants(self, *names: str) -> None:
        (self.folder / "mutants").write_text("".join(f"{name}\n" for name in names))

    def note_execution(self, method: str, message_id: str) -> None:
        self._append("executions.log", f"{method} {message_id} {os.getpid()}")

    def reach(self, point: str) -> None:
        """Run the action that is armed at the point, if any. Services call this."""
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
                time.sleep(FOREVER_SECONDS)

    def _take(self, point: str) -> str | None:
        try:
            uses = os.listdir(self._armed / point)  # noqa: PTH208 - the cheapest way, because every commit runs it
        except OSError:
            return None
        for use in uses:
            try:
                (self._armed / point / use).unlink()
            except FileNotFoundError:
                continue  # another process has used it
            return use.partition("-")[2]
        return None

    def _append(self, name: str, line: str) -> None:
        with (self.folder / name).open("ab") as file:  # a short write in append mode is atomic
            file.write(f"{line}\n".encode())

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []
