"""Folders for real servers, and a check that no test leaves a process behind."""

from pathlib import Path

import pytest

from tests.integration.servers.observed import processes_of

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def cache():
    """Return the folder of fetched servers, which is kept between runs."""
    return REPOSITORY / ".mycelium" / "cache"


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path):
    yield
    assert processes_of(tmp_path) == set()


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"
