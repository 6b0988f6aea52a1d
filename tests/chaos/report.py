"""The table of a run, on the screen and in docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from tests.chaos import mutants
from tests.chaos.runner import Result

BEGIN, END = "<!-- the table: written by `make chaos` -->", "<!-- the end of the table -->"
CONTROLS_BEGIN, CONTROLS_END = (
    "<!-- the controls: written by `make chaos` -->",
    "<!-- the end of the controls -->",
)
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
    return result.passed and (control is None or control.caught)


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
    """Put the tables between their marks in a Markdown file, in the order of the rows."""
    played = sorted(played, key=lambda one: one[0].row.number)
    text = _between(path.read_text(), BEGIN, END, _results(played, seed, seconds))
    path.write_text(_between(text, CONTROLS_BEGIN, CONTROLS_END, _controls(played)))


def _between(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


def _results(played: Played, seed: int, seconds: float) -> list[str]:
    when = time.strftime("%Y-%m-%d", time.gmtime())
    faults = sum(result.faults.total() for result, _ in played)
    form = "short form" if any(result.is_short for result, _ in played) else "full form"
    return [
        f"Seed {seed}, {when}, {form}: {faults} faults, {seconds / 60:.0f} minutes with the controls.",
        "",
        *_markdown(COLUMNS, _cells(played)),
        "",
        "Measured beside that:",
        "",
        *(
            f"- {result.row.name}: {', '.join(f'{name} {value}' for name, value in result.figures.items())}"
            for result, _ in played
            if result.figures
        ),
    ]


def _controls(played: Played) -> list[str]:
    meanings = mutants.meanings()
    noticed = [
        (result.row.name, result.row.control, meanings[result.row.control], _noticed(control))
        for result, control in played
    ]
    return _markdown(("row", "mutant", "what it does", "how the row noticed"), noticed)


def _noticed(control: Result | None) -> str:
    if control is None:
        return "not run"
    return control.findings[0] if control.caught else "MISSED"


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
    return f"{result.row.control}: {'caught' if control.caught else 'MISSED'}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
