"""Read CPU and memory by process from /proc."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(roots: Mapping[str, int]) -> Counter[str]:
    """Return CPU seconds by name.

    A name covers its root process and all descendants, ended processes included. Descendants of another root
    count under the name of that root.
    """
    spent: Counter[str] = Counter()
    for pid, name in _members(roots).items():
        if fields := _stat(pid):
            spent[name] += sum(int(field) for field in fields[11:15]) / _TICKS
    return spent


def memory(roots: Mapping[str, int]) -> Counter[str]:
    """Return megabytes by name. Shared pages are divided among their processes (PSS), so sums are correct."""
    used: Counter[str] = Counter()
    for pid, name in _members(roots).items():
        used[name] += _pss_kb(pid) / 1024
    return used


def _members(roots: Mapping[str, int]) -> dict[int, str]:
    """Return the name of the nearest root for every process below a root."""
    parents = {int(entry.name): _parent(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
    names = {pid: name for name, pid in roots.items()}
    members = {}
    for pid in parents:
        ancestor = pid
        while ancestor not in names and ancestor in parents:
            ancestor = parents[ancestor]
        if ancestor in names:
            members[pid] = names[ancestor]
    return members


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (the state) on; empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
