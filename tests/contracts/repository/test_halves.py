"""Each test file runs in exactly one half, and `python -m tests PATH` finds that half."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from mycelium.state import ROOT
from tests.__main__ import ASYNCIO, EVENTLET, FAST, FAST_ALONE, NoSuchTest, halves, jobs, run_together, select

TEST_FILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("tests/**/test_*.py"))
ASYNCIO_FILE = "tests/contracts/repository/test_halves.py"
EVENTLET_FILE = "tests/unit/mesh/test_fair_lock.py"


def test_every_test_file_lies_in_one_listed_folder():
    owners = {
        str(file): [folder for folder in EVENTLET + ASYNCIO if file.is_relative_to(folder)]
        for file in TEST_FILES
    }
    assert len(owners) > 100, "the search misses test files"
    assert {file: folders for file, folders in owners.items() if len(folders) != 1} == {}


@pytest.mark.parametrize("folder", EVENTLET + ASYNCIO)
def test_listed_folder_exists_and_holds_tests(folder):
    assert (ROOT / folder).is_dir()
    assert any(file.is_relative_to(folder) for file in TEST_FILES)


def test_no_folder_is_listed_twice():
    assert [folder for folder, times in Counter(EVENTLET + ASYNCIO).items() if times > 1] == []


def test_fast_run_has_all_unit_tests_and_contracts_and_nothing_else():
    chosen = {folder for folders in halves(fast=True).values() for folder in folders}
    assert chosen == {folder for folder in EVENTLET + ASYNCIO if folder.startswith(FAST)}


@pytest.mark.parametrize("folder", FAST)
def test_fast_run_uses_nothing_that_starts_a_server(folder):
    starts = re.compile(r"find_or_fetch|tests\.integration|tests\.e2e|tests\.chaos\.(mesh|servers)")
    users = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in ROOT.glob(f"{folder}/**/*.py")
        for line in path.read_text().splitlines()
        if starts.search(line) and path.name != "test_halves.py"
    }
    assert users == set()


def test_no_path_selects_both_halves():
    assert select([], halves()) == (halves(), [])


def test_options_alone_select_both_halves():
    assert select(["-k", "order", "-x"], halves()) == (halves(), ["-k", "order", "-x"])


def test_file_runs_in_its_own_half_only():
    assert select([ASYNCIO_FILE], halves()) == ({"asyncio": [ASYNCIO_FILE]}, [])
    assert select([EVENTLET_FILE, "-x"], halves()) == ({"eventlet": [EVENTLET_FILE]}, ["-x"])


def test_files_of_both_halves_run_each_in_its_own():
    assert select([ASYNCIO_FILE, EVENTLET_FILE], halves())[0] == {
        "eventlet": [EVENTLET_FILE],
        "asyncio": [ASYNCIO_FILE],
    }


def test_single_test_runs_in_the_half_of_its_file():
    test = f"{ASYNCIO_FILE}::test_x[a/b::c]"
    assert select([test], halves()) == ({"asyncio": [test]}, [])


def test_folder_above_the_listed_ones_selects_those_below_it():
    contracts = {
        half: [folder for folder in folders if folder.startswith("tests/contracts/")]
        for half, folders in halves().items()
    }
    assert select(["tests/contracts/"], halves()) == (contracts, [])


@pytest.mark.parametrize("spelled", [f"./{ASYNCIO_FILE}", str(ROOT / ASYNCIO_FILE)])
def test_path_is_found_in_every_spelling(spelled, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert select([spelled], halves())[0] == {"asyncio": [ASYNCIO_FILE]}


@pytest.mark.parametrize("option", ["-k", "--ignore", "--deselect"])
def test_value_of_an_option_is_no_path(option):
    assert select([option, ASYNCIO_FILE], halves()) == (halves(), [option, ASYNCIO_FILE])


@pytest.mark.parametrize(
    "path", ["tests/unit/mesh/test_typo.py", "test_typo.py", "tests/builders.py", "a::b"]
)
def test_path_that_no_half_owns_is_an_error(path):
    with pytest.raises(NoSuchTest, match=path):
        select([path], halves())


def test_fast_run_refuses_a_path_that_is_not_fast():
    with pytest.raises(NoSuchTest, match="tests/e2e"):
        select(["tests/e2e"], halves(fast=True))


def test_fast_run_shares_the_folders_among_its_processes():
    fast = halves(fast=True)
    shared = jobs(fast, fast=True)
    assert len(shared) == 2 + len(FAST_ALONE)
    assert all(("asyncio", [folder]) in shared for folder in FAST_ALONE)
    for half, folders in fast.items():
        assert sorted(folders) == sorted(path for owner, paths in shared for path in paths if owner == half)


def test_whole_run_has_a_process_for_each_half():
    assert jobs(halves()) == list(halves().items())


def test_processes_of_the_fast_run_return_their_codes_and_print_in_order(capfd):
    slow = "import time; time.sleep(0.2); print('first')"
    failing = "import sys; print('second'); sys.exit(3)"
    assert run_together([["-c", slow], ["-c", failing]]) == [0, 3]
    assert capfd.readouterr().out == "first\nsecond\n"
