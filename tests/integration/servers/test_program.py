"""Starting and stopping processes, with small real ones."""

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


def test_the_last_one_started_is_the_first_one_stopped(tmp_path, logs):
    programs = [a_program(tmp_path, textwrap.dedent(says_goodbye(name)), name) for name in "abc"]
    with running(*programs, log_dir=logs) as processes:
        processes.wait_until(start_marks(tmp_path, *"abc"), PATIENCE, "all of them")
    assert (tmp_path / "order").read_text().split() == ["c", "b", "a"]


def test_who_ignores_the_signal_is_killed_and_its_children_too(tmp_path, logs):
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


def test_nothing_outlives_a_parent_that_was_killed(tmp_path):
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


def test_a_block_that_fails_stops_its_processes_too(tmp_path, logs):
    with pytest.raises(ZeroDivisionError), running(a_program(tmp_path), log_dir=logs):
        raise ZeroDivisionError
    assert processes_of(tmp_path) == set()


def test_the_environment_is_added_and_the_output_logged(tmp_path, logs):
    script = "import os; print(os.environ['PATH'] and os.environ['COLOUR'], flush=True)"
    program = a_program(tmp_path, script, environment={"COLOUR": "green"})
    with running(program, log_dir=logs) as processes:
        wait_until(lambda: processes.log_of("one").read_text() == "green\n", PATIENCE, "the output")


def test_waiting_ends_at_once_when_a_process_has_ended(tmp_path, logs):
    began = time.monotonic()
    with (
        running(a_program(tmp_path, "raise SystemExit(7)"), log_dir=logs) as processes,
        pytest.raises(NotReady, match=f"the door: one ended with exit code 7 .log: {logs}"),
    ):
        processes.wait_until(lambda: False, 60, "the door")
    assert time.monotonic() - began < PATIENCE


def test_waiting_names_what_did_not_come():
    with pytest.raises(ServerError, match=r"the broker: not there after 0.05 s"):
        wait_until(lambda: False, 0.05, "the broker")


def test_a_stop_signal_of_its_own(tmp_path, logs):
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


def test_a_listener_takes_a_port_and_its_end_frees_it():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not port_is_free(ports[0])
    assert port_is_free(ports[0])


def test_the_processes_found_by_the_tests_are_real_ones(tmp_path, logs):
    with running(a_program(tmp_path), log_dir=logs) as processes:
        wait_until(lambda: processes_of(tmp_path) == {processes["one"].pid}, PATIENCE, "it")
        os.kill(processes["one"].pid, 0)
