"""Run the load generator wrk, installed or fetched from Debian."""

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
SLOW_SECONDS = 8
"""wrk counts slower responses as timeouts, but still waits for them."""


class LoadFailed(Exception):
    """The stack did not answer as expected, so the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses of a run. `bad` counts statuses of 400 and above, and broken connections.

    Latencies are in milliseconds. `cpu` is wrk's own CPU in seconds.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    bad: int
    statuses: str
    """The count of each status, in a checked run."""
    cpu: float

    @property
    def rate(self) -> float:
        """Good responses per second."""
        return (self.requests - self.bad) / self.seconds


class Wrk:
    """Runs loads. Their files lie in `folder`."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self._tool = tool.find_or_fetch("wrk", cache, lambda text: None)
        self._folder = folder

    def run(self, load: Load, clients: int, seconds: float, *, checked: bool = False) -> Responses:
        """Run a load.

        Raises LoadFailed when a connection failed. With `checked` also when no response had the good status.
        """
        templates = self._folder / "templates.lua"
        load.write(templates)
        run = f"bench-{secrets.token_hex(8)}"[:RUN_LENGTH]
        options = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", f"--timeout={SLOW_SECONDS}s"]
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
        counts = json.loads(done.stdout.partition("RESULT ")[2])
        if counts["connect"] or counts["write"]:
            raise LoadFailed(f"{load.host}: {counts}")
        if checked and f"{load.good_status}=" not in counts["statuses"]:
            raise LoadFailed(f"{load.host}: no response had status {load.good_status}: {counts}")
        return Responses(
            requests=counts["requests"],
            seconds=counts["microseconds"] / 1e6,
            p50=counts["p50"] / 1000,
            p99=counts["p99"] / 1000,
            bad=counts["status"] + counts["read"],
            statuses=counts["statuses"].strip(),
            cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        )
