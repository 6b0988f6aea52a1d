"""The processes of a mesh: list, signal, stop and start them through its supervisor."""

from __future__ import annotations

import os
import re
import shlex
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xmlrpc.client import Fault

from mycelium.runner.supervisor import connect
from mycelium.state import State


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the supervisor reports it. `pid` is 0 while it is not running."""

    name: str
    group: str
    pid: int
    state: str


class Supervised:
    def __init__(self, state: State) -> None:
        self.state = state

    def processes(self) -> list[Process]:
        listed = connect(self.state).supervisor.getAllProcessInfo()
        return [Process(info["name"], info["group"], info["pid"], info["statename"]) for info in listed]

    def process(self, name: str) -> Process:
        return next(process for process in self.processes() if process.name == name)

    def instances(self, service: str) -> list[str]:
        """Return the names of a service's processes: `orders-1` and `orders-2`, or `users`."""
        names = [process.name for process in self.processes()]
        return [name for name in names if re.fullmatch(rf"{service}(-\d+)?", name)]

    def stop_process(self, name: str) -> None:
        """Stop a process as an operator does: SIGTERM, and no restart. Return after its exit."""
        with suppress(Fault):  # it was not running
            connect(self.state).supervisor.stopProcess(self._full_name(name))

    def start_process(self, name: str) -> None:
        with suppress(Fault):  # it was running already
            connect(self.state).supervisor.startProcess(self._full_name(name), False)

    def _full_name(self, name: str) -> str:
        return f"{self.process(name).group}:{name}"

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process, but not to its children. Return its pid, or 0 if it is not running."""
        pid = self.process(name).pid
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def signal_tree(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process and all its descendants, such as the backends of PostgreSQL."""
        for member in _tree(pid) if pid else ():
            with suppress(ProcessLookupError):
                os.kill(member, number)

    def program(self, name: str) -> dict[str, str]:
        """Return the environment variables that the start script of a process sets."""
        lines = (self.state.programs / name).read_text().splitlines()
        pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
        return {key: value for key, _, value in pairs}


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    members = [pid]
    for member in members:  # grows meanwhile
        members += children.get(member, [])
    return members
