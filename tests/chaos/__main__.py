"""`python -m tests.chaos`: inject the faults of each row, and report which invariants held."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos import report
from tests.chaos.mesh import Mesh
from tests.chaos.rows import Row, every_row
from tests.chaos.runner import Result, Runner

out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def main(
    rows: Annotated[str, typer.Option(help="Names such as R1,R4. The default is all rows.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything random. The seed in use is printed.")
    ] = None,
    short: Annotated[bool, typer.Option(help="Play the short forms.")] = False,
    controls: Annotated[
        bool | None,
        typer.Option(help="Play each row with its mutant, too. The default is on, unless --short."),
    ] = None,
    report_to: Annotated[
        Path | None, typer.Option("--report", help="Write the tables into this Markdown file.")
    ] = None,
) -> None:
    """Start a mesh, inject faults and check the books. Exit with 1 if a row fails or misses its mutant."""
    chosen = _chosen(rows)
    seed = secrets.randbelow(10**6) if seed is None else seed
    with_controls = not short if controls is None else controls
    folder = Path(tempfile.mkdtemp(prefix="mycelium-chaos-"))
    out.print(f"seed {seed}; logs and histories are in {folder}")
    mesh = Mesh(folder)
    played: list[tuple[Result, Result | None]] = []
    try:
        mesh.start()
        runner = Runner(mesh, seed)
        for row in chosen:
            played.append(_play(runner, row, short, with_controls))
            if report_to:  # after each row, so that a late crash loses no result
                report.write(report_to, played[-1:], seed)
    finally:
        mesh.stop()
    out.print(report.table(played, seed))
    for result, _ in played:
        if not result.passed:
            out.print(result.explain(), markup=False)
    if not all(report.holds(*pair) for pair in played):
        raise typer.Exit(1)
    shutil.rmtree(folder, ignore_errors=True)


def _chosen(names: str) -> list[Row]:
    known = {row.name: row for row in every_row()}
    wanted = names.upper().split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(known)}")
    return [known[name] for name in wanted]


def _play(runner: Runner, row: Row, short: bool, with_control: bool) -> tuple[Result, Result | None]:
    out.print(f"{row.name}: {row.load}")
    result = runner.play(row, short=short)
    out.print(f"    {report.in_short(result)}", markup=False)
    control = None
    if with_control:
        control = runner.control(row)
        out.print(f"    with {row.control}: {report.in_short(control)}", markup=False)
    return result, control


if __name__ == "__main__":
    typer.run(main)
