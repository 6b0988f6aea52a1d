"""Run a client program that measures calls, and measure the CPU of the service that it calls."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from bench import machine
from bench.measure import Clock, say_sample
from bench.options import Options
from bench.programs.timing import WARM_SECONDS
from bench.results import LOAD, Sample
from mycelium.state import ROOT

START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Caller:
    """A client program of bench.programs, the service that it calls, and the processes behind the service."""

    name: str
    program: str
    target: str
    roots: Mapping[str, int]
    environment: Mapping[str, str]

    def run(self, suite: str, in_flight: int, number: int, options: Options) -> Sample:
        """Run the client and return its figures.

        The client warms up for a second, and the service's CPU of that second is subtracted in proportion.
        """
        quiet = machine.wait_until_quiet(options.quiet_seconds)
        command = [sys.executable, "-m", f"bench.programs.{self.program}", self.target]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock = Clock(self.roots)
        done = subprocess.run(
            [*command, str(in_flight), str(options.seconds)],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **self.environment},
            capture_output=True,
            text=True,
            timeout=options.seconds + WARM_SECONDS + START_TIMEOUT_SECONDS,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        foreign = clock.foreign_cores(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        measured = json.loads(done.stdout.splitlines()[-1])
        share = options.seconds / (options.seconds + WARM_SECONDS)
        cpu = {name: share * seconds for name, seconds in clock.spent().items()} | {LOAD: measured["cpu"]}
        sample = Sample(
            suite=suite,
            stack=self.name,
            clients=in_flight,
            round=number,
            rate=measured["rate"],
            p50=measured["p50"],
            p99=measured["p99"],
            foreign_cores=foreign,
            noisy=not quiet or foreign > machine.MAX_FOREIGN_CORES,
            cpu_us={name: round(1e6 * seconds / measured["calls"], 1) for name, seconds in cpu.items()},
        )
        say_sample(sample, options)
        return sample
