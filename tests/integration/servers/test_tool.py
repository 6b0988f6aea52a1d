"""Single tools: wrk, which the benchmarks drive."""

import os
import subprocess

import pytest

from mycelium.servers import ServerError, tool


def test_wrk_is_fetched_and_runs(cache):
    wrk = tool.find_or_fetch("wrk", cache, print, use_machine=False)
    done = subprocess.run(
        [wrk.path, "--version"],
        env={**os.environ, **wrk.environment},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert "wrk" in done.stdout


def test_the_machines_own_comes_first(tmp_path):
    assert tool.find_or_fetch("sh", tmp_path, print).path.name == "sh"
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_no_package_has_is_a_server_error(tmp_path):
    with pytest.raises(ServerError):
        tool.find_or_fetch("no-such-tool-anywhere", tmp_path, print)
