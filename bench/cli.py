"""The command `python -m bench`: measure, write the report, and compare the figures with the targets."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from bench import machine
from bench import report as reports
from bench.options import Options
from bench.results import Results
from bench.scratch import scratch
from bench.suites import SUITES
from bench.targets import Target, verdicts
from mycelium.cli.output import out
from mycelium.state import ROOT

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
REPORT = ROOT / "docs" / "performance.md"
QUICK_SECONDS = 2


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the report has their median.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load in each run.")] = 4,
    clients: Annotated[str, typer.Option(help="Numbers of clients, separated by commas.")] = "1,16,64,256",
    only: Annotated[str, typer.Option(help=f"Suites, separated by commas: {', '.join(SUITES)}.")] = "",
    report: Annotated[
        Path, typer.Option(help="The report. Its .json and .svg are written beside it.")
    ] = REPORT,
    quick: Annotated[bool, typer.Option(help="Run one short round, to see that everything works.")] = False,
    render: Annotated[
        bool, typer.Option(help="Write the report from the .json file without measuring.")
    ] = False,
) -> None:
    """Measure the mesh beside its baselines. Exits 1 when a target is missed."""
    figures = report.with_suffix(".json")
    results = Results.load(figures)
    suites = _chosen(only)
    if render:
        reports.write(results, report)
        return
    if quick:
        rounds, seconds = 1, min(seconds, QUICK_SECONDS)
    with scratch() as folder:
        counts = tuple(int(count) for count in clients.split(","))
        options = Options(rounds, seconds, counts, quick, folder, _stopwatch())
        results.machine = machine.describe(folder)
        for name in suites:
            samples, facts = SUITES[name](options)
            arguments = f"--rounds {rounds} --seconds {seconds} --clients {clients} --only {name}"
            command = f"{_date_and_commit()}  python -m bench {arguments}{' --quick' * quick}"
            results.replace(name, samples, facts, command)
            results.save(figures)
            reports.write(results, report)
    raise typer.Exit(_show(verdicts(results, suites)))


def _chosen(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SUITES)
    if unknown := set(names) - set(SUITES):
        raise typer.BadParameter(f"no such suite: {', '.join(sorted(unknown))}", param_hint="--only")
    return names


def _stopwatch() -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since now before it."""
    started = time.monotonic()
    return lambda text: out.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {text}", soft_wrap=True)


def _date_and_commit() -> str:
    """Return the date and the commit, with a plus when the checkout has uncommitted changes."""
    command: Sequence[str] = ("git", "describe", "--always", "--dirty=+")
    described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return f"{datetime.now(UTC):%Y-%m-%d} {described.stdout.strip()}"


def _show(measured: Iterable[tuple[Target, float, bool]]) -> int:
    """Print the targets. Return the exit code: 1 when a target is missed."""
    right = {"justify": "right"}
    table = Table("compared", Column("target", **right), Column("result", **right), "", box=None)
    missed = 0
    for target, value, is_met in measured:
        missed += not is_met
        table.add_row(target.name, target.limit, f"{value:.2f}", "" if is_met else "[red]missed[/red]")
    if table.row_count:
        out.print(table)
    return 1 if missed else 0
