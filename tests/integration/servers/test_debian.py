"""Fetch packages for real, with a tiny package that hardly any machine has."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from mycelium.servers import ServerError
from mycelium.servers.debian import environment_of, unpacked

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="packages are fetched with apt")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Fetch `hello` into a cache that the module shares, because its package lists take the longest."""
    folder = tmp_path_factory.mktemp("cache")
    messages = []
    return folder, unpacked("hello", ["hello"], folder, messages.append), messages


def test_fetched_program_runs_from_its_folder(fetched):
    _, root, _ = fetched
    done = subprocess.run([root / "usr/bin/hello"], env=environment_of(root), capture_output=True, check=True)
    assert b"ello" in done.stdout


def test_fetch_reports_start_and_end(fetched):
    _, _, messages = fetched
    assert [line.split()[:2] for line in messages] == [["Fetching", "hello"], ["Fetched", "hello"]]


def test_fetched_package_is_not_fetched_again(fetched, monkeypatch):
    cache, root, _ = fetched
    monkeypatch.setenv("PATH", "")  # apt-get cannot be found
    messages = []
    assert unpacked("hello", ["hello"], cache, messages.append) == root
    assert messages == []


def test_fetch_leaves_only_the_unpacked_folder(fetched):
    cache, root, _ = fetched
    assert [path for path in (cache / "roots").iterdir() if path.suffix != ".lock"] == [root]


def test_two_concurrent_calls_fetch_once(fetched):
    cache, _, _ = fetched
    messages = []
    with ThreadPoolExecutor(2) as both:
        futures = [both.submit(unpacked, "twice", ["hello"], cache, messages.append) for _ in range(2)]
        assert {future.result() for future in futures} == {cache / "roots" / "twice"}
    assert [line for line in messages if line.startswith("Fetched")] == [messages[-1]]


def test_failed_fetch_leaves_nothing(fetched):
    cache, _, _ = fetched

    def fails(root):
        raise ServerError("the disk is full")

    with pytest.raises(ServerError, match="the disk is full"):
        unpacked("half", ["hello"], cache, print, finish=fails)
    assert not any("half" in path.name for path in (cache / "roots").iterdir() if path.is_dir())


def test_unknown_package_is_named_in_the_error(fetched):
    cache, _, _ = fetched
    with pytest.raises(ServerError, match="no-such-package"):
        unpacked("none", ["no-such-package-anywhere"], cache, print)


def test_machine_without_apt_raises_server_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match="this machine has no apt-get and dpkg"):
        unpacked("hello", ["hello"], tmp_path, print)
