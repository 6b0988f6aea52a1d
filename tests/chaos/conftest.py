"""Show each row that was played twice: in its status, in pytest's counts and in a section of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos import report
from tests.chaos.runner import Result

RESULTS = pytest.StashKey[list[Result]]()
REPLAYED = "chaos-replayed"


@pytest.fixture
def record_result(request: pytest.FixtureRequest) -> Callable[[Result], None]:
    """Return a function that adds the last result of a row to the report of the session."""

    def record(result: Result) -> None:
        request.config.stash.setdefault(RESULTS, []).append(result)
        if result.first_try:
            request.node.user_properties.append((REPLAYED, result.verdict))

    return record


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Put replayed rows into a category of their own, which pytest counts apart from `passed`."""
    verdict = dict(report.user_properties).get(REPLAYED)
    if verdict is None or report.when != "call" or not report.passed:
        return None
    return str(verdict), "2", str(verdict).upper()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if results := config.stash.get(RESULTS, []):
        terminalreporter.section("rows of chaos")
        for line in report.replays(results):
            terminalreporter.write_line(line)
