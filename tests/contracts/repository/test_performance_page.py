"""docs/performance.md is generated from bench/page.md and docs/performance.json."""

from __future__ import annotations

from bench import report
from bench.results import Results
from mycelium.state import ROOT

PAGE = ROOT / "docs" / "performance.md"


def test_performance_page_matches_its_figures_and_its_text() -> None:
    figures = Results.load(PAGE.with_suffix(".json"))

    assert report.render(figures, PAGE) == PAGE.read_text(), "run `python -m bench --render`"


def test_table_cells_of_the_performance_page_fit_on_a_line() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]

    assert [cell for row in rows for cell in row.split(" | ") if len(cell) > 100] == []
