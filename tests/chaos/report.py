"""The table of a run, on the screen and in docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from tests.chaos.runner import Result

BEGIN, END = "<!-- the table: written by `make chaos` -->", "<!-- the end of the table -->"
COLUMNS = (
    "row",
    "load and fault",
    "faults",
    "requests",
    "confirmed",
    "rejected",
    "202",
    "recovery",
    "verdict",
    "its control",
)

Played = Sequence[tuple[Result, Result | None]]


def holds(result: Result, control: Result | None) -> bool:
    return result.passed and (control is None or not control.passed)


def in_short(result: Result) -> str:
    verdict = "passed" if result.passed else f"FAILED: {result.findings[0]}"
    figures = "".join(f", {name} {value}" for name, value in result.figures.items())
    return (
        f"{verdict}, {result.seconds:.0f} s, {result.faults.total()} faults, "
        f"{dict(result.outcomes)}, recovered in {_seconds(result.recovery_seconds)}{figures}"
    )


def table(played: Played) -> Table:
    shown = Table(*COLUMNS, title="make chaos", show_lines=True)
    for cells in _cells(played):
        shown.add_row(*cells)
    return shown


def write(path: Path, played: Played, seed: int, seconds: float) -> None:
    """Put the table between the two marks of a Markdown file."""
    head, _, rest = path.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    when = time.strftime("%Y-%m-%d", time.gmtime())
    faults = sum(result.faults.total() for result, _ in played)
    intro = f"Seed {seed}, {when}: {faults} faults in {seconds / 60:.0f} minutes, controls included.\n"
    lines = [_markdown(COLUMNS), _markdown(["---"] * len(COLUMNS)), *map(_markdown, _cells(played))]
    measured = [
        f"- {result.row.name}: " + ", ".join(f"{name} {value}" for name, value in result.figures.items())
        for result, _ in played
        if result.figures
    ]
    parts = [BEGIN, "", intro, *lines, "", "Measured beside that:", "", *measured, "", END]
    path.write_text(head + "\n".join(parts) + tail)


def _cells(played: Played) -> list[list[str]]:
    return [
        [
            result.row.name,
            result.row.load,
            _counted(result),
            str(result.requests),
            str(result.outcomes["confirmed"]),
            str(result.outcomes["rejected"]),
            str(result.accepted),
            _seconds(result.recovery_seconds),
            "passed" if result.passed else "FAILED",
            _of_control(result, control),
        ]
        for result, control in played
    ]


def _counted(result: Result) -> str:
    return ", ".join(f"{times} x {what}" for what, times in sorted(result.faults.items())) or "none"


def _of_control(result: Result, control: Result | None) -> str:
    if control is None:
        return f"{result.row.control}: not run"
    return f"{result.row.control}: {'MISSED' if control.passed else 'caught'}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
