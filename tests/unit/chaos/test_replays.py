"""A chaos row that is played twice is shown, counted and never called plainly passed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mycelium.state import ROOT
from tests.chaos import report
from tests.chaos.rows import Row
from tests.chaos.runner import Result, Runner


async def nothing(_):
    """Play nothing."""


ROW = Row("R1", "orders while products dies", "all confirmed", "no-lock", ("products",), nothing)


def a_result(*findings, first_try=None):
    return Result(
        row=ROW,
        seed="7-R1-1",
        is_short=True,
        findings=list(findings),
        faults=Counter({"kill -9 products": 2}),
        requests=10,
        outcomes=Counter(confirmed=10),
        accepted=0,
        recovery_seconds=1.0,
        seconds=5.0,
        kept=Path("/tmp/kept"),
        first_try=first_try,
    )


REPLAYED = a_result(first_try=a_result("too slow"))


def test_second_try_carries_the_failed_first_one(monkeypatch):
    runner = Runner.__new__(Runner)
    monkeypatch.setattr(runner, "play", lambda row, *, short: a_result(), raising=False)
    failed = a_result("too slow")

    again = runner.play_again(failed)

    assert again.passed
    assert again.first_try is failed


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (a_result(), "passed"),
        (a_result("lost an order"), "FAILED"),
        (REPLAYED, "passed at the second try"),
        (a_result("lost an order", first_try=a_result("too slow")), "FAILED at the second try"),
    ],
)
def test_verdict_says_at_which_try(result, verdict):
    assert result.verdict == verdict
    assert report.in_short(result).startswith(verdict)


def test_explanation_of_a_second_failure_holds_the_first_one():
    assert "too slow" in a_result("lost an order", first_try=a_result("too slow")).explain()


def test_replays_are_counted_and_explained():
    counted, *reasons = report.replays([a_result(), REPLAYED])
    assert counted == "1 of 2 rows were played a second time"
    assert any("too slow" in line for line in reasons)


def test_written_table_counts_the_replays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "\n".join([report.BEGIN, report.END, report.CONTROLS_BEGIN, report.CONTROLS_END]),
    )
    report.write(page, [(REPLAYED, None)], seed=7)
    assert "1 rows, 2 faults, 1 rows played a second time." in page.read_text()
    assert "| passed at the second try |" in page.read_text()


PLAYED_TWICE = """
from tests.chaos.conftest import *
from tests.unit.chaos.test_replays import REPLAYED

def test_row(record_result):
    record_result(REPLAYED)
"""


def test_pytest_counts_a_replayed_row_apart_from_the_passed(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.chaos.conftest import *")
    (tmp_path / "test_it.py").write_text(PLAYED_TWICE)
    options = ["-q", "-p", "no:pytest_nameko", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, "-c", "/dev/null", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=25)

    assert "1 passed at the second try" in done.stdout, done.stdout + done.stderr
    assert "1 passed in" not in done.stdout
    assert "1 of 1 rows were played a second time" in done.stdout
    assert "too slow" in done.stdout
