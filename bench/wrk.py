"""The load generator, as a process of its own: wrk, found on the machine or fetched from Debian."""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.load import RUN_LENGTH, Load
from mycelium.servers import tool

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 8
"""wrk only counts the answers that took longer; it waits for them all the same."""


class LoadFailed(Exception):
    """The stack did not answer as it should, so there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Answered:
    """`bad` answers are those of 400 and above, and those that broke off.

    Latencies are in milliseconds, the CPU of wrk itself in seconds.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    bad: int
    statuses: str
    """How often each status was seen, in a checked run."""
    cpu: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.bad) / self.seconds


class Wrk:
    """Runs loads; their files lie in `folder`."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self._tool = tool.find_or_fetch("wrk", cache, lambda text: None)
        self._folder = folder

    def run(self, load: Load, clients: int, seconds: float, *, checked: bool = False) -> Answered:
        """Raises LoadFailed when a connection failed, or, `checked`, when no answer was the one wanted."""
        templates = self._folder / "templates.lua"
        load.write(templates)
        run = f"bench-{secrets.token_hex(8)}"[:RUN_LENGTH]
        options = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
        arguments = [f"http://{load.host}/", str(templates), run, *(["checked"] if checked else [])]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [str(self._tool.path), *options, "-s", str(SCRIPT), *arguments],
            env={**os.environ, **self._tool.environment},
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads(done.stdout.partition("RESULT ")[2])
        if found["connect"] or found["write"]:
            raise LoadFailed(f"{load.host}: {found}")
        if checked and f"{load.good_status}=" not in found["statuses"]:
            raise LoadFailed(f"{load.host}: no answer was {load.good_status}: {found}")
        return Answered(
            requests=found["requests"],
            seconds=found["microseconds"] / 1e6,
            p50=found["p50"] / 1000,
            p99=found["p99"] / 1000,
            bad=found["status"] + found["read"],
            statuses=found["statuses"].strip(),
            cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        )
