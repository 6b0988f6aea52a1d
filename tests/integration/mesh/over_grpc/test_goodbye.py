"""SIGTERM to real processes under load: started calls are answered, others move to another process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mycelium.state import ROOT
from tests.integration.mesh.over_grpc.process import ServiceProcess, echo_process

HERE = Path(__file__).parent
STOP_SECONDS = 30

Ask = Callable[[], dict[str, str]]


@contextmanager
def load(*services: ServiceProcess) -> Iterator[Ask]:
    """Make calls in another process. The yielded function ends the calls and returns their outcomes."""
    addresses = ",".join(f"127.0.0.1:{service.port}" for service in services)
    command = [sys.executable, "-W", "ignore", str(HERE / "caller_under_load.py"), addresses]
    client = subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def end() -> dict[str, str]:
        out, _ = client.communicate(timeout=60)
        outcomes: dict[str, str] = json.loads(out.splitlines()[-1])
        return outcomes

    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"calling\n"
        yield end
    finally:
        client.kill()
        client.wait()


def test_stopping_service_fails_no_call_while_others_run(tmp_path: Path) -> None:
    """grpcio itself repeats refused calls at another instance. No call is executed twice."""
    for name in "ab":
        (tmp_path / name).mkdir()
    with echo_process(tmp_path / "a") as leaving, echo_process(tmp_path / "b") as staying:
        with load(leaving, staying) as end:
            leaving.process.terminate()
            assert leaving.process.wait(STOP_SECONDS) == 0
            outcomes = end()
        begun = leaving.begun() + staying.begun()
    assert set(outcomes.values()) == {"OK"}
    assert sorted(text for text in begun if text.startswith("brief")) == sorted(outcomes)
    assert len(leaving.begun()) > 20  # the process was busy, even on a slow machine


def test_last_service_answers_its_calls_before_it_stops(tmp_path: Path) -> None:
    """All other calls fail as UNAVAILABLE, so repeating them executes nothing twice."""
    with echo_process(tmp_path) as leaving, load(leaving) as end:
        leaving.process.terminate()
        assert leaving.process.wait(STOP_SECONDS) == 0
        outcomes = end()
        begun = leaving.begun()
    failed = {text: status for text, status in outcomes.items() if status != "OK"}
    assert {status.partition(":")[0] for status in failed.values()} == {"UNAVAILABLE"}
    assert not set(failed) & set(begun)


def test_idle_process_stops_at_once(tmp_path: Path) -> None:
    with echo_process(tmp_path) as idle:
        idle.process.terminate()
        assert idle.process.wait(5) == 0
