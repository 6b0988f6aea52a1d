"""The tables of a run: on the screen, in docs/reliability.md and in docs/reliability.json.

The page is made from the JSON file. `python -m tests.chaos.report` renders it again, without a run.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from mycelium.state import ROOT
from tests.chaos import mutants
from tests.chaos.rows import every_row
from tests.chaos.runner import Result

PAGE = ROOT / "docs" / "reliability.md"
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
    "control",
)
CONTROL_COLUMNS = ("row", "mutant", "effect", "first finding")
MAX_CELL_LENGTH = 100

Played = Sequence[tuple[Result, Result | None]]
Record = Mapping[str, Any]


def holds(result: Result, control: Result | None) -> bool:
    return result.passed and (control is None or control.caught)


def in_short(result: Result) -> str:
    verdict = result.verdict if result.passed else f"{result.verdict}: {result.findings[0]}"
    figures = "".join(f", {name} {value}" for name, value in result.figures.items())
    return (
        f"{verdict}, {result.seconds:.0f} s, {result.faults.total()} faults, "
        f"{dict(result.outcomes)}, recovered in {_recovery(result.recovery_seconds)}{figures}"
    )


def table(played: Played, seed: int) -> Table:
    shown = Table(*COLUMNS, title="make chaos", show_lines=True)
    for result, control in played:
        shown.add_row(*_cells(result.row.name, _record(result, control, seed)))
    return shown


def replays(results: Iterable[Result]) -> list[str]:
    """Count the rows that were played twice, and explain why."""
    played = list(results)
    replayed = [result for result in played if result.first_try]
    lines = [f"{len(replayed)} of {len(played)} rows were played a second time"]
    for result in replayed:
        assert result.first_try is not None
        lines += [f"{result.row.name}: {result.verdict}", *result.first_try.explain().splitlines()]
    return lines


def write(page: Path, played: Played, seed: int) -> None:
    """Add results to the JSON file beside a Markdown page, and render the page.

    Rows that were not played keep their earlier results.
    """
    data = page.with_suffix(".json")
    records = json.loads(data.read_text()) if data.exists() else {}
    records |= {result.row.name: _record(result, control, seed) for result, control in played}
    ordered = dict(sorted(records.items(), key=lambda item: int(item[0].removeprefix("R"))))
    data.write_text(json.dumps(ordered, indent=1) + "\n")
    render(page)


def render(page: Path) -> None:
    """Write the tables between the marks of the page."""
    records = json.loads(page.with_suffix(".json").read_text())
    text = _between(page.read_text(), BEGIN, END, _results(records))
    page.write_text(_between(text, CONTROLS_BEGIN, CONTROLS_END, _controls(records)))


def _record(result: Result, control: Result | None, seed: int) -> Record:
    return {
        "form": "short" if result.is_short else "full",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "seconds": round(result.seconds),
        "faults": dict(sorted(result.faults.items())),
        "requests": result.requests,
        "confirmed": result.outcomes["confirmed"],
        "rejected": result.outcomes["rejected"],
        "accepted": result.accepted,
        "recovery": _recovery(result.recovery_seconds),
        "verdict": result.verdict,
        "replays": int(result.first_try is not None),
        "figures": {name: str(value) for name, value in result.figures.items()},
        "mutant": result.row.control,
        "control": _verdict_on(control),
        "finding": control.findings[0] if control and control.caught else "",
    }


def _verdict_on(control: Result | None) -> str:
    if control is None:
        return "not run"
    return "caught" if control.caught else "MISSED"


def _recovery(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _between(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


def _results(records: Mapping[str, Record]) -> list[str]:
    faults = sum(sum(record["faults"].values()) for record in records.values())
    replayed = sum(record["replays"] for record in records.values())
    return [
        f"{len(records)} rows, {faults} faults, {replayed} rows played a second time.",
        "",
        *_markdown(COLUMNS, [_cells(name, record) for name, record in records.items()]),
        "",
        "Date, seed, duration and further figures of each row:",
        "",
        *(f"- {name}: {', '.join(_details(record))}" for name, record in records.items()),
    ]


def _cells(name: str, record: Record) -> list[str]:
    loads = {row.name: row.load for row in every_row()}
    numbers = (record[column] for column in ("requests", "confirmed", "rejected", "accepted"))
    return [
        name,
        loads[name],
        _faults_in_short(record["faults"]),
        *map(str, numbers),
        record["recovery"],
        record["verdict"],
        f"{record['mutant']}: {record['control']}",
    ]


def _details(record: Record) -> list[str]:
    return [
        f"{record['form']} form",
        record["date"],
        f"seed {record['seed']}",
        f"{record['seconds']} s",
        *(f"{name} {value}" for name, value in record["figures"].items()),
    ]


def _faults_in_short(faults: Mapping[str, int]) -> str:
    """List the faults, or their kinds if the list is too long for a cell. The JSON file has the list."""
    listed = ", ".join(f"{times} x {fault}" for fault, times in faults.items()) or "none"
    if len(listed) <= MAX_CELL_LENGTH:
        return listed
    kinds: Counter[str] = Counter()
    for fault, times in faults.items():
        kinds[_kind(fault)] += times
    return ", ".join(f"{times} x {kind}" for kind, times in kinds.items())


def _kind(fault: str) -> str:
    """Return a fault without its place: `exit` for `exit at orders.ack.after`."""
    for kind in ("kill -9", "SIGSTOP", "SIGTERM", "stop"):
        if fault.startswith(f"{kind} "):
            return kind
    return fault.partition(" at ")[0]


def _controls(records: Mapping[str, Record]) -> list[str]:
    effects = mutants.meanings()
    rows = [
        (name, record["mutant"], effects[record["mutant"]], record["finding"] or record["control"])
        for name, record in records.items()
    ]
    return _markdown(CONTROL_COLUMNS, rows)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(_fitting(cell) for cell in line)} |" for line in lines]


def _fitting(cell: str) -> str:
    text = cell.replace("|", "/")
    return text if len(text) <= MAX_CELL_LENGTH else f"{text[: MAX_CELL_LENGTH - 3].rstrip()}..."


if __name__ == "__main__":
    render(PAGE)
