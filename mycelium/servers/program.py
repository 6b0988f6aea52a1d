"""Describe a foreground process, and run such processes without a supervisor, as tests do."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_PORT = 10_000
FIRST_EPHEMERAL_PORT = 32_768
"""Linux's default of net.ipv4.ip_local_port_range."""
FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.25


class ServerError(Exception):
    """A server cannot be found, fetched or started. The message is a sentence for the user."""


class NotReady(ServerError, TimeoutError):
    """A condition was not met in time, or the process that was to meet it has ended."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process that runs in the foreground under a supervisor.

    `environment` is added to the supervisor's own. `stop_signal` asks the process to end. Its process group
    may be killed after `stop_seconds`.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


def tied_to_parent(command: Sequence[str], stop_signal: signal.Signals = signal.SIGTERM) -> tuple[str, ...]:
    """Return the command so that the process gets `stop_signal` when its parent dies, even by SIGKILL.

    The kernel watches the parent *thread*, so start the process from a thread that outlives it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return tuple(command)
    return (setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--", *command)


def free_ports(count: int) -> tuple[int, ...]:
    """Return different TCP ports of the loopback on which nothing listens.

    The ports are taken later. They are random and lie below the ports of outgoing connections, so another
    process is unlikely to take them first.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(FIRST_PORT, FIRST_EPHEMERAL_PORT)
        if port_is_free(port):
            ports.add(port)
    return tuple(ports)


def free_port() -> int:
    return free_ports(1)[0]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Set as a server sets it, because a port with only TIME_WAIT connections is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(
    condition: Callable[[], bool],
    seconds: float,
    what: str,
    *,
    log: Path | None = None,
    failure: Callable[[], str | None] = lambda: None,
) -> None:
    """Return as soon as `condition()` is true.

    Raises NotReady, which names `what` and `log`, after that many seconds. Raises it at once when `failure()`
    returns a reason.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    where = f" (log: {log})" if log else ""
    while not condition():
        if reason := failure():
            raise NotReady(f"{what}: {reason}{where}")
        if time.monotonic() + pause > deadline:
            raise NotReady(f"{what}: not ready after {seconds:g} s{where}")
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE_SECONDS)


class Processes(dict[str, subprocess.Popen[bytes]]):
    """The running processes, by their programs' names."""

    def __init__(self, log_dir: Path) -> None:
        super().__init__()
        self.log_dir = log_dir

    def log_of(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def start(self, program: Program) -> subprocess.Popen[bytes]:
        """Start the program in a new session. Its output is appended to its log."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with self.log_of(program.name).open("ab") as log:
            self[program.name] = subprocess.Popen(
                tied_to_parent(program.command, program.stop_signal),
                cwd=program.directory,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self[program.name]

    def stop(self, program: Program) -> None:
        """Send the stop signal, kill what is left of the process group, and reap the process."""
        process = self.pop(program.name, None)
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(program.stop_signal)
            with contextlib.suppress(NotReady):
                wait_until(lambda: _has_ended(process.pid), program.stop_seconds, program.name)
            # The process is not reaped yet, so its group's number cannot have been reused.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait like `wait_until`, but raise NotReady at once when a process has ended."""
        wait_until(condition, seconds, what, log=self.log_dir, failure=self._ended)

    def _ended(self) -> str | None:
        for name, process in self.items():
            if process.poll() is not None:
                return f"{name} ended with exit code {process.returncode}"
        return None


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


@contextlib.contextmanager
def running(*programs: Program, log_dir: Path) -> Iterator[Processes]:
    """Start the programs in order, and stop them in reverse order at the end of the block.

    The programs also end when this process is killed.
    """
    processes = Processes(log_dir)
    try:
        for program in programs:
            processes.start(program)
        yield processes
    finally:
        for program in reversed(programs):
            processes.stop(program)
