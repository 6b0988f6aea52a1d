"""`python -m bench.beside CHECKOUT`: this checkout's mesh beside that of another checkout, in turns.

It shows what a change costs: both meshes run at the same time, and the loads alternate between them. It
prints the ratio of each round (this checkout / the other) and the median of the ratios. The report does not
change.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from bench.measure import run, turns, warm
from bench.options import Options
from bench.results import Sample
from bench.servers import CACHE
from bench.stacks.mesh import LOADS, mesh
from bench.wrk import Wrk

HERE, OTHER = "this checkout", "the other"
FIELDS = ("rate", "p50", "cost")


def main(
    checkout: Annotated[Path, typer.Argument(help="Another checkout, with a .venv of its own.")],
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load in each run.")] = 4,
    clients: Annotated[str, typer.Option(help="Numbers of clients, separated by commas.")] = "1,64,256",
    only: Annotated[str, typer.Option(help="Loads, separated by commas.")] = "orders,reads",
) -> None:
    counts = tuple(int(count) for count in clients.split(","))
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        options = Options(rounds, seconds, counts, False, Path(scratch), print)
        wrk = Wrk(CACHE, options.folder)
        other = mesh(options.folder / "other", checkout=checkout.resolve(), name=OTHER)
        stacks = [
            running.enter_context(other),
            running.enter_context(mesh(options.folder / "here", name=HERE)),
        ]
        for what in only.split(","):
            warm(stacks, LOADS[what], wrk, options)
            for count in counts:
                samples = [
                    run(what, stack, LOADS[what](stack), wrk, count, number, options)
                    for number, stack in turns(stacks, rounds)
                ]
                show(what, count, samples)


def show(what: str, clients: int, samples: list[Sample]) -> None:
    here, other = (
        sorted((sample for sample in samples if sample.stack == stack), key=lambda sample: sample.round)
        for stack in (HERE, OTHER)
    )
    for field in FIELDS:
        ratios = [getattr(a, field) / getattr(b, field) for a, b in zip(here, other, strict=True)]
        values = [f"{median(getattr(sample, field) for sample in side):.4g}" for side in (here, other)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{what}, {clients} clients, {field}: {values[0]} against {values[1]}, "
              f"ratio {median(ratios):.3f} ({each})", flush=True)  # fmt: skip
    for process in sorted(here[0].cpu_us.keys() & other[0].cpu_us.keys()):
        own, others = (median(sample.cpu_us.get(process, 0.0) for sample in side) for side in (here, other))
        if own >= 1:
            print(f"    {process}: {own:.0f} us of CPU against {others:.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(typer.run(main))
