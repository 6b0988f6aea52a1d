"""The table of a run, on the screen and in docs/reliability.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
    verdict = result.verdict if result.passed else f"{result.verdict}: {result.findings[0]}"
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


def replays(results: Iterable[Result]) -> list[str]:
    """The rows that were played twice, counted, and the reason of each."""
    played = list(results)
    twice = [result for result in played if result.first_try]
    lines = [f"{len(twice)} of {len(played)} rows were played a second time"]
    for result in twice:
        assert result.first_try is not None
        lines += [f"{result.row.name}: {result.verdict}", *result.first_try.explain().splitlines()]
    return lines


def write(path: Path, played: Played, seed: int) -> None:
    """Put what was measured between the marks of a Markdown file; rows that were not played keep theirs.

    Beside it, with the ending .json, is the same for machines, from which the tables are made.
    """
    kept = path.with_suffix(".json")
    records = json.loads(kept.read_text()) if kept.exists() else {}
    records |= {result.row.name: _record(result, control, seed) for result, control in played}
    kept.write_text(json.dumps(dict(sorted(records.items(), key=_number)), indent=1) + "\n")
    rows = [record for _, record in sorted(records.items(), key=_number)]
    text = _between(path.read_text(), BEGIN, END, _results(rows))
    path.write_text(_between(text, CONTROLS_BEGIN, CONTROLS_END, _controls(rows)))


def _number(named: tuple[str, Any]) -> int:
    return int(named[0].removeprefix("R"))


def _record(result: Result, control: Result | None, seed: int) -> dict[str, Any]:
    (cells,) = _cells([(result, control)])
    return {
        "cells": cells,
        "figures": {name: str(value) for name, value in result.figures.items()},
        "mutant": result.row.control,
        "noticed": _noticed(control),
        "form": "short" if result.is_short else "full",
        "played": f"{time.strftime('%Y-%m-%d', time.gmtime())}, seed {seed}, {result.seconds:.0f} s",
        "faults": result.faults.total(),
        "replays": int(result.first_try is not None),
    }


def _between(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


def _results(records: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{len(records)} rows, {sum(record['faults'] for record in records)} faults, "
        f"{sum(record.get('replays', 0) for record in records)} rows played a second time.",
        "",
        *_markdown(COLUMNS, [record["cells"] for record in records]),
        "",
        "When each was played, and what was measured beside that:",
        "",
        *(
            f"- {record['cells'][0]} ({record['form']} form, {record['played']}): "
            + (", ".join(f"{name} {value}" for name, value in record["figures"].items()) or "nothing else")
            for record in records
        ),
    ]


def _controls(records: Sequence[dict[str, Any]]) -> list[str]:
    meanings = mutants.meanings()
    noticed = [
        (record["cells"][0], record["mutant"], meanings[record["mutant"]], record["noticed"])
        for record in records
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
            result.verdict,
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
