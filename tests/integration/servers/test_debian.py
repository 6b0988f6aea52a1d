"""Fetching packages for real, with a tiny one that hardly any machine has."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from mycelium.servers import ServerError
from mycelium.servers.debian import environment_of, unpacked

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="packages are fetched with apt")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """One cache for the module, with the package lists in it: they take longer than the package."""
    folder = tmp_path_factory.mktemp("cache")
    said = []
    return folder, unpacked("hello", ["hello"], folder, said.append), said


def test_a_fetched_program_runs_from_its_folder(fetched):
    _, root, _ = fetched
    done = subprocess.run([root / "usr/bin/hello"], env=environment_of(root), capture_output=True, check=True)
    assert b"ello" in done.stdout


def test_what_is_done_is_said(fetched):
    _, _, said = fetched
    assert [line.split()[:2] for line in said] == [["Fetching", "hello"], ["Fetched", "hello"]]


def test_nothing_is_fetched_twice(fetched, monkeypatch):
    cache, root, _ = fetched
    monkeypatch.setenv("PATH", "")  # no apt-get to be found
    said = []
    assert unpacked("hello", ["hello"], cache, said.append) == root
    assert said == []


def test_nothing_but_the_folder_is_left_of_the_fetch(fetched):
    cache, root, _ = fetched
    assert [path for path in (cache / "roots").iterdir() if path.suffix != ".lock"] == [root]


def test_two_at_once_fetch_once(fetched):
    cache, _, _ = fetched
    said = []
    with ThreadPoolExecutor(2) as both:
        futures = [both.submit(unpacked, "twice", ["hello"], cache, said.append) for _ in range(2)]
        assert {future.result() for future in futures} == {cache / "roots" / "twice"}
    assert [line for line in said if line.startswith("Fetched")] == [said[-1]]


def test_a_fetch_that_fails_half_way_leaves_nothing(fetched):
    cache, _, _ = fetched

    def fails(root):
        raise ServerError("the disk is full")

    with pytest.raises(ServerError, match="the disk is full"):
        unpacked("half", ["hello"], cache, print, finish=fails)
    assert not any("half" in path.name for path in (cache / "roots").iterdir() if path.is_dir())


def test_a_package_that_does_not_exist_is_named(fetched):
    cache, _, _ = fetched
    with pytest.raises(ServerError, match="no-such-package"):
        unpacked("none", ["no-such-package-anywhere"], cache, print)


def test_a_machine_without_apt_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match="this machine has no apt-get and dpkg"):
        unpacked("hello", ["hello"], tmp_path, print)
