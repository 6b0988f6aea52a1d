"""Each test has the time limit of its folder, unless its marker or the command line has another."""

from __future__ import annotations

import pytest

from mycelium.state import ROOT
from tests.time_limit import SECONDS, pytest_collection_modifyitems


class Item:
    """The parts of a collected test that the limits use."""

    def __init__(self, path, marker=None):
        self.path = ROOT / path
        self.marker = marker

    def get_closest_marker(self, name):
        return self.marker

    def add_marker(self, marker):
        self.marker = marker.mark


class Config:
    rootpath = ROOT

    def __init__(self, timeout=None):
        self.timeout = timeout

    def getoption(self, name):
        return self.timeout


@pytest.mark.parametrize("folder", SECONDS)
def test_test_in_a_folder_has_its_limit(folder):
    assert (ROOT / folder).is_dir()
    item = Item(f"{folder}/test_x.py")

    pytest_collection_modifyitems(Config(), [item])

    assert item.marker.args == (SECONDS[folder],)


def test_own_limit_of_a_test_beats_that_of_its_folder():
    own = pytest.mark.timeout(7).mark
    item = Item("tests/unit/test_x.py", own)

    pytest_collection_modifyitems(Config(), [item])

    assert item.marker is own


def test_limit_on_the_command_line_beats_that_of_the_folder():
    item = Item("tests/unit/test_x.py")

    pytest_collection_modifyitems(Config(timeout=0), [item])

    assert item.marker is None
