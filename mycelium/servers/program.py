"""A process that runs in the foreground, and what is needed to run one in a test.

A supervisor needs no more than the fields of `Program`; `running` is the small stand-in for one.
"""

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
"""Linux's default: net.ipv4.ip_local_port_range."""
FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.25


class ServerError(Exception):
    """A server can't be had, or can't be started. The message is one sentence for a person."""


class NotReady(ServerError, TimeoutError):
    """What was awaited did not come in time, or the process it was awaited from ended."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process, to be run in the foreground by whoever supervises it.

    `environment` is added to the supervisor's own; `stop_signal` asks the process to leave, which
    takes it `stop_seconds` at most; after that its process group may be killed.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


def tied_to_parent(command: Sequence[str], stop_signal: signal.Signals = signal.SIGTERM) -> tuple[str, ...]:
    """The same command, but it gets `stop_signal` when its parent dies, even of SIGKILL.

    The kernel means the parent *thread*: start programs from one that lives as long as they should.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return tuple(command)
    return (setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--", *command)


def free_ports(count: int) -> tuple[int, ...]:
    """That many different TCP ports of the loopback that nobody listens on just now.

    They are listened on later, so they are chosen at random from below those that the kernel gives
    to outgoing connections: nobody else is likely to take one meanwhile.
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
        # As a server would: a port with nothing but connections in TIME_WAIT on it is free.
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

    Raises NotReady, naming `what` and `log`, when it is not after that many seconds, or at once
    when `failure()` says why it never will be.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    where = f" (log: {log})" if log else ""
    while not condition():
        if why := failure():
            raise NotReady(f"{what}: {why}{where}")
        if time.monotonic() + pause > deadline:
            raise NotReady(f"{what}: not there after {seconds:g} s{where}")
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE_SECONDS)


class Processes(dict[str, subprocess.Popen[bytes]]):
    """The running processes by the name of their program."""

    def __init__(self, log_dir: Path) -> None:
        super().__init__()
        self.log_dir = log_dir

    def log_of(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def start(self, program: Program) -> subprocess.Popen[bytes]:
        """Start it in a session of its own; its output is appended to its log."""
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
        """Ask it to leave, then kill what is left of its process group, then reap it."""
        process = self.pop(program.name, None)
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(program.stop_signal)
            with contextlib.suppress(NotReady):
                wait_until(lambda: _has_ended(process.pid), program.stop_seconds, program.name)
            # Not reaped yet, so the number of the group can't have gone to somebody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Like `wait_until`, and gives up at once when one of the processes has ended."""
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
    """Run the programs, in order, until the block ends; then stop them, the last one first.

    Nothing of them is left afterwards, and they leave when this process is killed.
    """
    processes = Processes(log_dir)
    try:
        for program in programs:
            processes.start(program)
        yield processes
    finally:
        for program in reversed(programs):
            processes.stop(program)
