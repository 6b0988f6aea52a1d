"""`python -m tests [pytest's arguments]`: every test, in two processes, and how much they cover.

Nameko's services need a process that is monkey-patched before anything else is imported; asyncio
code (the gateway, nameko_mesh.aio) needs one that is not. So the tests run twice, each time a part.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence

NO_TESTS = 5  # pytest's exit code when a selection, such as -k, leaves none

EVENTLET = [
    "tests/unit/services",
    "tests/unit/mesh",
    "tests/contracts/events",
    "tests/integration/services",
    "tests/integration/mesh",
]
ASYNCIO = [
    "tests/unit/aio",
    "tests/unit/gateway",
    "tests/unit/command_line",
    "tests/contracts/gateway",
    "tests/contracts/protos",
    "tests/contracts/repository",
    "tests/integration/servers",
    "tests/integration/aio",
    "tests/integration/gateway",
    "tests/integration/smtp",
    "tests/integration/command_line",
    "tests/e2e",
    "tests/chaos",
]

LEAST_COVERAGE = 90


def run(command: Sequence[str]) -> int:
    return subprocess.run([sys.executable, *command]).returncode


def main(arguments: list[str]) -> int:
    run(["-m", "coverage", "erase"])
    with tempfile.TemporaryDirectory(prefix="mycelium-tests-", ignore_cleanup_errors=True) as scratch:
        ours = [f"--basetemp={scratch}/eventlet", *EVENTLET, *arguments]
        theirs = [f"--basetemp={scratch}/asyncio", *ASYNCIO, *arguments]
        codes = [
            run(["-W", "ignore", "-m", "coverage", "run", "-m", "tests.patched", *ours]),
            run(["-m", "coverage", "run", "-m", "pytest", "-p", "no:pytest_nameko", *theirs]),
        ]
    run(["-m", "coverage", "combine", "--quiet"])
    least = 0 if arguments else LEAST_COVERAGE  # a selection covers what it covers
    codes.append(run(["-m", "coverage", "report", "--skip-covered", f"--fail-under={least}"]))
    return max(0 if code == NO_TESTS else code for code in codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
