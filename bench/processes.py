"""CPU and memory by process, from /proc."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(roots: Mapping[str, int]) -> Counter[str]:
    """Seconds of CPU so far, by name: of the process with that pid and of all its descendants,
    those included that have ended, down to where another name begins."""
    spent: Counter[str] = Counter()
    for pid, name in _members(roots).items():
        if fields := _stat(pid):
            spent[name] += sum(int(field) for field in fields[11:15]) / _TICKS
    return spent


def memory(roots: Mapping[str, int]) -> Counter[str]:
    """Megabytes, by name. What processes share is divided among them (PSS), so sums are right."""
    used: Counter[str] = Counter()
    for pid, name in _members(roots).items():
        used[name] += _pss_kb(pid) / 1024
    return used


def _members(roots: Mapping[str, int]) -> dict[int, str]:
    """Every process below one of the roots, with the name of the nearest of them."""
    parents = {int(one.name): _parent(int(one.name)) for one in Path("/proc").iterdir() if one.name.isdigit()}
    names = {pid: name for name, pid in roots.items()}
    found = {}
    for pid in parents:
        above = pid
        while above not in names and above in parents:
            above = parents[above]
        if above in names:
            found[pid] = names[above]
    return found


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; empty when the process has gone."""
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
