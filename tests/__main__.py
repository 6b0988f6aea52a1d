"""`python -m tests [--fast] [files or folders] [pytest's arguments]`: the tests, in two processes.

Nameko's services need a process that eventlet patches before the first import. Asyncio code (the gateway,
nameko_mesh.aio) needs an unpatched process. So each half of the tests has a process of its own.

    python -m tests                              every test, with coverage
    python -m tests --fast                       unit and contract tests, without a server, under a minute
    python -m tests tests/unit/mesh -k frames    a selection, in the half that owns each path
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_TESTS = 5  # pytest's exit code when a selection, such as -k, leaves none

EVENTLET = [
    "tests/unit/services",
    "tests/unit/mesh",
    "tests/unit/chaos",
    "tests/contracts/events",
    "tests/integration/services",
    "tests/integration/mesh",
]
ASYNCIO = [
    "tests/unit/aio",
    "tests/unit/gateway",
    "tests/unit/command_line",
    "tests/unit/harness",
    "tests/contracts/gateway",
    "tests/contracts/protos",
    "tests/contracts/repository",
    "tests/integration/harness",
    "tests/integration/servers",
    "tests/integration/aio",
    "tests/integration/gateway",
    "tests/integration/smtp",
    "tests/integration/command_line",
    "tests/e2e",
    "tests/chaos",
]
FAST = ("tests/unit", "tests/contracts")
"""Folders whose tests start no server."""
FAST_ALONE = ("tests/unit/gateway", "tests/unit/aio")
"""Folders with a process of their own in the fast run: the gateway's computes most, aio's sleeps most."""

PROGRAMS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "eventlet": (("-W", "ignore"), ("-m", "tests.patched")),
    "asyncio": ((), ("-m", "pytest", "-p", "no:pytest_nameko")),
}
"""Options of the interpreter, and the program, of each half."""
TAKE_A_PATH = (
    "--deselect",
    "--ignore",
    "--ignore-glob",
    "--rootdir",
    "--basetemp",
    "--junitxml",
    "--log-file",
)
TAKE_A_VALUE = ("-k", "-m", "-p", "-c", "-o", "-W", *TAKE_A_PATH)
"""Options of pytest that take the next argument, which may look like a path of tests."""

MIN_COVERAGE = 90


class NoSuchTest(Exception):
    """A path on the command line that belongs to neither half."""


def halves(*, fast: bool = False) -> dict[str, list[str]]:
    """Return the folders of each half."""
    listed = {"eventlet": EVENTLET, "asyncio": ASYNCIO}
    if not fast:
        return listed
    return {half: [folder for folder in folders if _is_fast(folder)] for half, folders in listed.items()}


def select(
    arguments: Iterable[str], folders: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the paths that each half runs, and the other arguments.

    Without a path, each half runs all of its folders. With paths, each half runs the paths that it owns, and
    a half that owns none is left out. Raises NoSuchTest for a path that no half owns.
    """
    paths, others = _split(arguments)
    if not paths:
        return {half: list(owned) for half, owned in folders.items()}, others
    selected: dict[str, list[str]] = {half: [] for half in folders}
    for path in paths:
        owners = {half: owned for half in folders if (owned := _owned(path, folders[half]))}
        if not owners:
            raise NoSuchTest(f"{path}: no test file or folder of the lists in tests/__main__.py")
        for half, owned in owners.items():
            selected[half] += owned
    return {half: chosen for half, chosen in selected.items() if chosen}, others


def _split(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    paths: list[str] = []
    others: list[str] = []
    before = ""
    for argument in arguments:
        is_path = before not in TAKE_A_VALUE and _names_tests(argument)
        (paths if is_path else others).append(argument)
        before = argument
    return paths, others


def _names_tests(argument: str) -> bool:
    if argument.startswith("-"):
        return False
    path = argument.partition("::")[0]
    return "::" in argument or path.endswith(".py") or _inside(path).parts[:1] == ("tests",)


def _owned(argument: str, folders: Sequence[str]) -> list[str]:
    """Return the part of a path that a half owns: all of it, or the folders below it."""
    name, separator, test = argument.partition("::")
    path = _inside(name)
    if not (ROOT / path).exists():
        return []
    if any(path.is_relative_to(folder) for folder in folders):
        return [f"{path}{separator}{test}"]
    return [folder for folder in folders if Path(folder).is_relative_to(path)]


def _inside(path: str) -> Path:
    """Return a path relative to the root of the checkout."""
    absolute = Path(path).absolute()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def _is_fast(folder: str) -> bool:
    return any(Path(folder).is_relative_to(fast) for fast in FAST)


def jobs(selected: Mapping[str, Sequence[str]], *, fast: bool = False) -> list[tuple[str, list[str]]]:
    """Return the half and the paths of each process."""
    if not fast:
        return [(half, list(paths)) for half, paths in selected.items()]
    groups: dict[tuple[str, str], list[str]] = {}
    for half, paths in selected.items():
        for path in paths:
            alone = next((folder for folder in FAST_ALONE if path.startswith(folder)), "")
            groups.setdefault((half, alone), []).append(path)
    return [(half, paths) for (half, _), paths in groups.items()]


def run(command: Sequence[str]) -> int:
    return subprocess.run([sys.executable, *command], cwd=ROOT).returncode


def run_together(commands: Sequence[Sequence[str]]) -> list[int]:
    """Run commands concurrently. Print their outputs one after the other."""
    codes = []
    with ThreadPoolExecutor(len(commands)) as pool:
        for done in pool.map(_capture, commands):
            print(done.stdout, end="", flush=True)
            codes.append(done.returncode)
    return codes


def _capture(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def main(arguments: list[str]) -> int:
    fast = "--fast" in arguments
    try:
        selected, others = select([option for option in arguments if option != "--fast"], halves(fast=fast))
    except NoSuchTest as error:
        print(error, file=sys.stderr)
        return 2
    is_whole = selected == halves()  # only a whole run measures coverage
    coverage = ["-m", "coverage", "run"] if is_whole else []
    if is_whole:
        run(["-m", "coverage", "erase"])
    with tempfile.TemporaryDirectory(prefix="mycelium-tests-", ignore_cleanup_errors=True) as scratch:
        commands = []
        for number, (half, paths) in enumerate(jobs(selected, fast=fast)):
            options, program = PROGRAMS[half]
            commands.append(
                [*options, *coverage, *program, f"--basetemp={scratch}/{number}", *paths, *others]
            )
        codes = run_together(commands) if fast else [run(command) for command in commands]
    if all(code == NO_TESTS for code in codes):
        return NO_TESTS
    if is_whole:
        run(["-m", "coverage", "combine", "--quiet"])
        least = 0 if others else MIN_COVERAGE  # a selection such as -k has no minimum
        codes.append(run(["-m", "coverage", "report", "--skip-covered", f"--fail-under={least}"]))
    return max(0 if code == NO_TESTS else code for code in codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
