"""Every process of a mesh in reach: listed, signalled, stopped and started through its supervisor."""

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
    """What the supervisor knows of one; `pid` is 0 while it is not running."""

    name: str
    group: str
    pid: int
    state: str


class Supervised:
    def __init__(self, state: State) -> None:
        self.state = state

    def processes(self) -> list[Process]:
        listed = connect(self.state).supervisor.getAllProcessInfo()
        return [Process(one["name"], one["group"], one["pid"], one["statename"]) for one in listed]

    def process(self, name: str) -> Process:
        return next(one for one in self.processes() if one.name == name)

    def instances(self, service: str) -> list[str]:
        """The names of its processes: `orders-1` and `orders-2`, or `users`."""
        return [one.name for one in self.processes() if re.fullmatch(rf"{service}(-\d+)?", one.name)]

    def stop_process(self, name: str) -> None:
        """As an operator stops it: SIGTERM, and it stays away. Returns when it has left."""
        with suppress(Fault):  # it was not running
            connect(self.state).supervisor.stopProcess(self._full_name(name))

    def start_process(self, name: str) -> None:
        with suppress(Fault):  # it was running already
            connect(self.state).supervisor.startProcess(self._full_name(name), False)

    def _full_name(self, name: str) -> str:
        return f"{self.process(name).group}:{name}"

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to the process alone; returns its pid, 0 when it is not running."""
        pid = self.process(name).pid
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def signal_tree(self, pid: int, number: signal.Signals) -> None:
        """To a process and all its descendants: a frozen PostgreSQL is its backends too."""
        for one in _tree(pid) if pid else ():
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def program(self, name: str) -> dict[str, str]:
        """The environment of its own that a process is started with."""
        lines = (self.state.programs / name).read_text().splitlines()
        pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
        return {key: value for key, _, value in pairs}


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found
