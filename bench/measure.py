"""One run of one stack, and the order of the runs: stacks take turns, and each round turns the order."""

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
GIVEN_UP_SECONDS = 3.0


class Clock:
    """CPU of the processes that are measured, and of everybody else, between two moments."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots
        self._began, self._busy, self._cpu = time.monotonic(), machine.busy(), processes.cpu(roots)

    def spent(self) -> Counter[str]:
        """Seconds so far, by process."""
        now = processes.cpu(self._roots)
        return Counter({name: now[name] - self._cpu[name] for name in now})

    def foreign_cores(self, own: float) -> float:
        """How many cores others kept busy; `own` is what our load generator used, in seconds."""
        others = machine.busy() - self._busy - sum(self.spent().values()) - own
        return max(0.0, others / (time.monotonic() - self._began))


def turns(stacks: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    for number in range(rounds):
        for stack in stacks if number % 2 == 0 else reversed(stacks):
            yield number, stack


def warm(stacks: Sequence[Stack], load: Callable[[Stack], Load], wrk: Wrk, options: Options) -> None:
    """Every answer is looked at here: see load.lua."""
    for stack in stacks:
        answered = wrk.run(load(stack), WARM_CLIENTS, WARM_SECONDS, checked=True)
        options.say(f"{stack.name} is warm: {answered.statuses}")


def run(
    suite: str,
    stack: Stack,
    load: Load,
    wrk: Wrk,
    clients: int,
    number: int,
    options: Options,
    *,
    name: str = "",
    clean: bool = True,
) -> Sample:
    """Orders are checked in the books afterwards, and what follows from them counts as their cost."""
    if clean:
        stack.clean()
    stack.settle()
    stack.open_books()
    quiet = machine.wait_until_quiet(options.quiet_seconds)
    clock = Clock(stack.roots())
    answered = wrk.run(load, clients, options.seconds)
    foreign = clock.foreign_cores(answered.cpu)
    ended = time.monotonic()
    stack.settle()
    if answered.bad:  # what was given up by its client may still be on its way, until its deadline
        time.sleep(GIVEN_UP_SECONDS)
        stack.settle()
    notes = {"settled after": time.monotonic() - ended}
    good = answered.requests - answered.bad
    cpu_us = {one: round(1e6 * seconds / max(1, good), 1) for one, seconds in clock.spent().items()}
    cpu_us[LOAD] = round(1e6 * answered.cpu / max(1, good), 1)
    if load.good_status == "201":
        notes |= stack.check_books(good, clients + answered.bad)
    sample = Sample(
        suite=suite,
        stack=name or stack.name,
        clients=clients,
        round=number,
        rate=answered.rate,
        p50=answered.p50,
        p99=answered.p99,
        bad=answered.bad,
        foreign_cores=foreign,
        noisy=not quiet or foreign > machine.MAX_FOREIGN_CORES,
        cpu_us=cpu_us,
        notes=notes,
    )
    tell(sample, options)
    return sample


def tell(sample: Sample, options: Options) -> None:
    notes = {**sample.notes, "foreign cores": sample.foreign_cores, "bad answers": sample.bad}
    options.say(
        f"{sample.suite} round {sample.round + 1}, {sample.clients:3} at once, {sample.stack}: "
        f"{sample.rate:.0f}/s, p50 {sample.p50:.2f} ms, p99 {sample.p99:.2f} ms, CPU {sample.cost:.0f} us"
        + "".join(f", {name} {value:.1f}" for name, value in notes.items() if value >= 0.1)
        + (" [yellow](noisy)[/yellow]" if sample.noisy else "")
    )
