"""A hanging test fails at its time limit, in both halves, and the tests after it still run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mycelium.state import ROOT

HANGING = Path(__file__).parent / "hanging"


@pytest.mark.parametrize(
    ("half", "file", "hanging"),
    [
        (["tests.patched"], "eventlet_hangs.py", 6),
        (["pytest", "-p", "no:pytest_nameko"], "asyncio_hangs.py", 9),
    ],
    ids=["eventlet", "asyncio"],
)
def test_hanging_tests_fail_at_the_limit_and_the_next_one_passes(half, file, hanging):
    options = ["-q", "--timeout=0.5", "--tb=line", "-p", "no:cacheprovider"]
    command = [sys.executable, "-W", "ignore", "-m", *half, *options, str(HANGING / file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    summary = done.stdout.splitlines()[-1]
    assert f"{hanging} failed, " in summary, done.stdout
    assert "FAILED" in done.stdout
    assert "after_the_hanging_tests" not in done.stdout, "the test after the hanging ones failed too"
