"""`python -m bench`: measure, print a table, say what was reached."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from bench import machine
from bench import report as reports
from bench.options import Options
from bench.results import Results
from bench.suites import SUITES
from bench.targets import Target, verdicts
from mycelium.state import ROOT

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Of load in each run.")] = 4,
    clients: Annotated[str, typer.Option(help="How many at once, with commas between.")] = "1,16,64,256",
    only: Annotated[str, typer.Option(help=f"Of {', '.join(SUITES)}.")] = "",
    report: Annotated[Path, typer.Option(help="The report; .json and .svg beside it.")] = ROOT
    / "docs/performance.md",
    quick: Annotated[bool, typer.Option(help="Short and noisy: to see that it works.")] = False,
) -> None:
    """Measure the mesh beside its baselines; exit 1 when a ratio falls short of what is wanted."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SUITES)
    if unknown := set(names) - set(SUITES):
        raise typer.BadParameter(f"no such suite: {', '.join(sorted(unknown))}", param_hint="--only")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # stop what was started

    def say(text: str) -> None:
        out.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}", soft_wrap=True)

    home = ROOT / ".mycelium" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    if quick:
        rounds, seconds = 1, min(seconds, 2)
    options = Options(rounds, seconds, tuple(int(one) for one in clients.split(",")), quick, folder, say)
    results = Results.load(report.with_suffix(".json"))
    results.machine = machine.describe(folder)
    for name in names:
        samples, facts = SUITES[name](options)
        how = f"--rounds {rounds} --seconds {seconds} --clients {clients} --only {name}"
        results.replace(name, samples, facts, f"{_today()}  python -m bench {how}{' --quick' * quick}")
        results.save(report.with_suffix(".json"))
        reports.write(results, report)
    shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(_tell(verdicts(results, names)))


def _today() -> str:
    """The date and the commit; with a plus when files were changed since."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True
    )
    return f"{datetime.now(UTC):%Y-%m-%d} {found.stdout.strip()}"


def _tell(found: Iterable[tuple[Target, float, bool]]) -> int:
    """The exit code: 1 when a ratio falls short."""
    table = Table(
        "ratio", Column("wanted", justify="right"), Column("reached", justify="right"), "", box=None
    )
    short = 0
    for target, value, is_met in found:
        short += not is_met
        table.add_row(target.name, target.wish, f"{value:.2f}", "" if is_met else "[red]falls short[/red]")
    if table.row_count:
        out.print(table)
    return 1 if short else 0
