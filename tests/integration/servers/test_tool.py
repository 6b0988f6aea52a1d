"""Single tools, such as wrk for the benchmarks."""

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


def test_installed_tool_is_preferred(tmp_path):
    assert tool.find_or_fetch("sh", tmp_path, print).path.name == "sh"
    assert list(tmp_path.iterdir()) == []


def test_unknown_tool_raises_server_error(tmp_path):
    with pytest.raises(ServerError):
        tool.find_or_fetch("no-such-tool-anywhere", tmp_path, print)
