"""Start and stop small real processes."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from mycelium.servers import NotReady, Program, ServerError, free_ports, port_is_free, running, wait_until
from tests.integration.servers.observed import processes_of

PATIENCE = 10.0


def a_program(folder, script="import signal; signal.pause()", name="one", **fields):
    return Program(name=name, command=(sys.executable, "-c", script), directory=folder, **fields)


def says_goodbye(name):
    return f"""
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: (open("order", "a").write("{name} "), sys.exit()))
        open("{name}.started", "w").close()
        signal.pause()
    """


def start_marks(folder, *names):
    return lambda: all((folder / f"{name}.started").exists() for name in names)


def test_programs_stop_in_reverse_order(tmp_path, logs):
    programs = [a_program(tmp_path, textwrap.dedent(says_goodbye(name)), name) for name in "abc"]
    with running(*programs, log_dir=logs) as processes:
        processes.wait_until(start_marks(tmp_path, *"abc"), PATIENCE, "all of them")
    assert (tmp_path / "order").read_text().split() == ["c", "b", "a"]


def test_program_that_ignores_the_stop_signal_is_killed_with_its_children(tmp_path, logs):
    stubborn = """
        import signal, subprocess, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        open("one.started", "w").close()
        signal.pause()
    """
    program = a_program(tmp_path, textwrap.dedent(stubborn), stop_seconds=0.2)
    with running(program, log_dir=logs) as processes:
        processes.wait_until(start_marks(tmp_path, "one"), PATIENCE, "it")
        assert len(processes_of(tmp_path)) == 2
    assert processes_of(tmp_path) == set()


def test_programs_end_when_their_parent_is_killed(tmp_path):
    parent = f"""
        import signal
        from pathlib import Path
        from mycelium.servers import Program, running
        folder = Path({str(tmp_path)!r})
        children = [Program(name=n, command=("sleep", "1000"), directory=folder) for n in "ab"]
        with running(*children, log_dir=folder / "logs"):
            (folder / "parent.started").touch()
            signal.pause()
    """
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)])
    try:
        wait_until(start_marks(tmp_path, "parent"), PATIENCE, "the parent")
        wait_until(lambda: len(processes_of(tmp_path)) == 3, PATIENCE, "its children")
    finally:
        started.kill()
        started.wait()
    wait_until(lambda: not processes_of(tmp_path), PATIENCE, "the children's end")


def test_failing_block_stops_its_programs(tmp_path, logs):
    with pytest.raises(ZeroDivisionError), running(a_program(tmp_path), log_dir=logs):
        raise ZeroDivisionError
    assert processes_of(tmp_path) == set()


def test_program_gets_its_environment_and_its_output_is_logged(tmp_path, logs):
    script = "import os; print(os.environ['PATH'] and os.environ['COLOUR'], flush=True)"
    program = a_program(tmp_path, script, environment={"COLOUR": "green"})
    with running(program, log_dir=logs) as processes:
        wait_until(lambda: processes.log_of("one").read_text() == "green\n", PATIENCE, "the output")


def test_waiting_fails_at_once_when_a_process_has_ended(tmp_path, logs):
    began = time.monotonic()
    with (
        running(a_program(tmp_path, "raise SystemExit(7)"), log_dir=logs) as processes,
        pytest.raises(NotReady, match=f"the door: one ended with exit code 7 .log: {logs}"),
    ):
        processes.wait_until(lambda: False, 60, "the door")
    assert time.monotonic() - began < PATIENCE


def test_wait_until_names_the_condition_that_was_not_met():
    with pytest.raises(ServerError, match=r"the broker: not ready after 0.05 s"):
        wait_until(lambda: False, 0.05, "the broker")


def test_program_is_stopped_with_its_own_signal(tmp_path, logs):
    script = """
        import signal, sys
        signal.signal(signal.SIGINT, lambda *_: (open("interrupted", "w").close(), sys.exit()))
        open("one.started", "w").close()
        signal.pause()
    """
    program = a_program(tmp_path, textwrap.dedent(script), stop_signal=signal.SIGINT)
    with running(program, log_dir=logs) as processes:
        processes.wait_until(start_marks(tmp_path, "one"), PATIENCE, "it")
    assert (tmp_path / "interrupted").exists()


def test_free_ports_are_distinct_and_free_while_nothing_listens():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not port_is_free(ports[0])
    assert port_is_free(ports[0])


def test_processes_of_finds_a_running_program(tmp_path, logs):
    with running(a_program(tmp_path), log_dir=logs) as processes:
        wait_until(lambda: processes_of(tmp_path) == {processes["one"].pid}, PATIENCE, "it")
        os.kill(processes["one"].pid, 0)
