"""Run a load against a stack. Stacks take turns in a round, and each round reverses their order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from bench import machine, processes
from bench.load import Load
from bench.options import Options
from bench.results import LOAD, Sample
from bench.stacks import Stack
from bench.wrk import Wrk

T = TypeVar("T")

WARM_SECONDS = 2
WARM_CLIENTS = 8
ABANDONED_SECONDS = 3.0


class Clock:
    """Measures the CPU of the stack's processes and of all other processes since its creation."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots
        self._began, self._busy, self._cpu = time.monotonic(), machine.busy(), processes.cpu(roots)

    def spent(self) -> Counter[str]:
        """Return CPU seconds by process."""
        now = processes.cpu(self._roots)
        return Counter({name: now[name] - self._cpu[name] for name in now})

    def foreign_cores(self, own: float) -> float:
        """Return the cores that other processes used. `own` is the load generator's CPU in seconds."""
        foreign = machine.busy() - self._busy - sum(self.spent().values()) - own
        return max(0.0, foreign / (time.monotonic() - self._began))


def turns(stacks: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    for number in range(rounds):
        for stack in stacks if number % 2 == 0 else reversed(stacks):
            yield number, stack


def warm(stacks: Sequence[Stack], load: Callable[[Stack], Load], wrk: Wrk, options: Options) -> None:
    """Warm up the stacks. Only here every status is checked, see load.lua."""
    for stack in stacks:
        responses = wrk.run(load(stack), WARM_CLIENTS, WARM_SECONDS, checked=True)
        options.say(f"{stack.name} is warm: {responses.statuses}")


def run(
    suite: str,
    stack: Stack,
    load: Load,
    wrk: Wrk,
    clients: int,
    number: int,
    options: Options,
    *,
    label: str = "",
    clean: bool = True,
) -> Sample:
    """Run a load and return its figures.

    Afterwards the stored orders are compared with the responses. An order's cost includes work that follows.
    """
    if clean:
        stack.clean()
    stack.settle()
    stack.open_books()
    quiet = machine.wait_until_quiet(options.quiet_seconds)
    clock = Clock(stack.roots())
    responses = wrk.run(load, clients, options.seconds)
    foreign = clock.foreign_cores(responses.cpu)
    ended = time.monotonic()
    stack.settle()
    if responses.bad:  # the mesh may still work on an abandoned request until its deadline
        time.sleep(ABANDONED_SECONDS)
        stack.settle()
    notes = {"settled after": time.monotonic() - ended}
    good = responses.requests - responses.bad
    cpu_us = {name: round(1e6 * seconds / max(1, good), 1) for name, seconds in clock.spent().items()}
    cpu_us[LOAD] = round(1e6 * responses.cpu / max(1, good), 1)
    if load.good_status == "201":
        notes |= stack.check_books(good, clients + responses.bad)
    sample = Sample(
        suite=suite,
        stack=label or stack.name,
        clients=clients,
        round=number,
        rate=responses.rate,
        p50=responses.p50,
        p99=responses.p99,
        bad=responses.bad,
        foreign_cores=foreign,
        noisy=not quiet or foreign > machine.MAX_FOREIGN_CORES,
        cpu_us=cpu_us,
        notes=notes,
    )
    say_sample(sample, options)
    return sample


def say_sample(sample: Sample, options: Options) -> None:
    notes = {**sample.notes, "foreign cores": sample.foreign_cores, "errors": sample.bad}
    options.say(
        f"{sample.suite} round {sample.round + 1}, {sample.clients:3} clients, {sample.stack}: "
        f"{sample.rate:.0f}/s, p50 {sample.p50:.2f} ms, p99 {sample.p99:.2f} ms, CPU {sample.cost:.0f} us"
        + "".join(f", {name} {value:.1f}" for name, value in notes.items() if value >= 0.1)
        + (" [yellow](noisy)[/yellow]" if sample.noisy else "")
    )
