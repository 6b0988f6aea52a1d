"""Configure supervisord, which keeps the processes of the mesh alive, and talk to it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from mycelium.servers import Program, wait_until
from mycelium.servers.program import tied_to_parent
from mycelium.state import State

STABLE_SECONDS = 3
"""A process that ends sooner has failed to start. Each retry waits a second longer than the last."""
START_TIMEOUT_SECONDS = 10.0


class Supervisor:
    """Runs supervisord as a child process. If this process dies, supervisord and its programs end too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, groups: Mapping[str, Sequence[Program]], environment: Mapping[str, str]) -> None:
        """Start supervisord without starting any program. Groups stop in reverse order.

        All programs share `environment`. It may hold secrets, so it is passed on and never written to a file.
        """
        self._state.supervisor_config.write_text(render(self._state, groups))
        self._state.supervisor_log.unlink(missing_ok=True)
        self._state.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            tied_to_parent(
                [
                    sys.executable,
                    "-m",
                    "supervisor.supervisord",
                    "-n",
                    "-c",
                    str(self._state.supervisor_config),
                ]
            ),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # keeps Ctrl-C from reaching supervisord: this process stops it in order
        )
        wait_until(self.is_running, START_TIMEOUT_SECONDS, "the supervisor")

    def start_group(self, name: str) -> None:
        self._call("startProcessGroup", name, False)

    def is_running(self) -> bool:
        return (
            self._process is not None
            and self._process.poll() is None
            and bool(processes(self._state) is not None)
        )

    def wait(self, seconds: float) -> bool:
        """Return whether supervisord ends by itself within that many seconds."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, seconds: float) -> None:
        """Stop every program, the last group first, then supervisord."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _call(self, method: str, *arguments: Any) -> Any:
        return getattr(connect(self._state).supervisor, method)(*arguments)


def processes(state: State) -> list[dict[str, Any]] | None:
    """Return supervisord's record of each process, or None when no supervisord answers."""
    try:
        records: list[dict[str, Any]] = connect(state).supervisor.getAllProcessInfo()
    except (OSError, HTTPException, Error):
        return None
    return records


def pid_of(state: State, name: str) -> int:
    """Return the process's pid, or 0 when it does not run."""
    return next((process["pid"] for process in processes(state) or () if process["name"] == name), 0)


def kill(state: State, name: str) -> None:
    """Kill a process; supervisord starts it again. A process that has just ended is left alone."""
    for process in processes(state) or ():
        if process["name"] == name:
            with suppress(OSError, HTTPException, Error):
                connect(state).supervisor.signalProcess(f"{process['group']}:{name}", "KILL")


def failed_start(state: State) -> str | None:
    """Return which process does not start and the path of its log, or None if all have started."""
    for process in processes(state) or ():
        if process["statename"] in ("BACKOFF", "FATAL"):
            return f"{process['name']} does not start: see {state.logs / process['name']}.log"
    return None


def restarts(state: State) -> Counter[str]:
    """Count each process's restarts in the supervisor's log."""
    if not state.supervisor_log.exists():
        return Counter()
    started = Counter(re.findall(r"spawned: '([^']+)'", state.supervisor_log.read_text()))
    return Counter({name: times - 1 for name, times in started.items()})


def connect(state: State) -> Any:
    """Return a client of supervisord's XML-RPC interface, on its socket."""
    transport = SupervisorTransport(None, None, f"unix://{state.socket}")
    return ServerProxy("http://127.0.0.1", transport=transport)


def render(state: State, groups: Mapping[str, Sequence[Program]]) -> str:
    """Return the configuration, and write each program's script."""
    sections = [
        _section(
            "supervisord",
            logfile=state.supervisor_log,
            logfile_maxbytes=0,  # no rotation, because `restarts` counts lines in this file
            pidfile=state.home / "supervisord.pid",
            childlogdir=state.logs,
            **({"user": "root"} if os.geteuid() == 0 else {}),
        ),
        _section("unix_http_server", file=state.socket, chmod="0600"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    for priority, (group, programs) in enumerate(groups.items(), start=1):
        sections += [_program(program, state) for program in programs]
        members = ",".join(program.name for program in programs)
        sections.append(_section(f"group:{group}", programs=members, priority=priority))
    return "\n".join(sections)


def _program(program: Program, state: State) -> str:
    return _section(
        f"program:{program.name}",
        command=shlex.quote(str(_script(program, state))),
        directory=program.directory,
        autostart="false",
        autorestart="true",
        startsecs=STABLE_SECONDS,
        startretries=10**6,
        stopsignal=program.stop_signal.name.removeprefix("SIG"),
        stopwaitsecs=int(program.stop_seconds),
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=state.logs / f"{program.name}.log",
        stdout_logfile_maxbytes="10MB",
        stdout_logfile_backups=1,
    )


def _script(program: Program, state: State) -> Path:
    """Write the program as a shell script, because an .ini file has no reliable quoting."""
    path = state.programs / program.name
    exports = [f"export {name}={shlex.quote(value)}" for name, value in program.environment.items()]
    command = shlex.join(tied_to_parent(program.command, program.stop_signal))
    path.write_text("\n".join(["#!/bin/sh", *exports, f"exec {command}", ""]))
    path.chmod(0o700)
    return path


def _section(name: str, **options: Any) -> str:
    lines = [f"{option}={str(value).replace('%', '%%')}" for option, value in options.items()]
    return "\n".join([f"[{name}]", *lines, ""])
