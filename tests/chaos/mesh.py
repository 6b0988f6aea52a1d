"""The mesh under test: `mycelium run` with a private state folder and private servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

from mycelium.servers import free_port
from mycelium.servers.program import tied_to_parent
from mycelium.state import ROOT, State
from tests.chaos.supervised import Supervised
from tests.waiting import eventually

SCALE = {"products": 2, "orders": 2, "users": 1, "notifications": 2}
START_SECONDS = 180
STARTS = 3
STOP_SECONDS = 90
READY_SECONDS = 90
PROBE_SECONDS = 2.0
CACHE = os.environ.get("MYCELIUM_CACHE", str(ROOT / ".mycelium" / "cache"))
NOT_OURS = ("AMQP_URI", "CONSUL_HTTP_ADDR", "DATABASE_URL", "SMTP_URL")


class Mesh(Supervised):
    """Two instances of each service, but a single users. Mails are written to files."""

    def __init__(self, folder: Path, *, postgresql: bool = True) -> None:
        self.folder = folder
        self.is_postgresql = postgresql
        self.chaos = folder / "chaos"
        super().__init__(State(folder / "state"))
        self._output = folder / "output.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the mesh and wait until its first order is placed. Raises RuntimeError with the output."""
        self.chaos.mkdir(parents=True, exist_ok=True)
        for tries_left in reversed(range(STARTS)):
            self._launch()
            eventually(self._is_decided, START_SECONDS, "the mesh")
            if self._is_running():
                self.settings = self.state.environment()
                return
            if not tries_left:  # another mesh on this machine may have taken one of the free ports
                raise RuntimeError(f"the mesh did not start:\n{self._read_output()}")

    def _launch(self) -> None:
        scale = ",".join(f"{service}={number}" for service, number in SCALE.items())
        command = [sys.executable, "-m", "mycelium", "run", "--scale", scale, "--port", str(free_port())]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # The mesh ends with the harness, even if the harness is killed.
                tied_to_parent([*command, "--db", "postgresql" if self.is_postgresql else "sqlite"]),
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _is_decided(self) -> bool:
        assert self._process is not None
        return self._is_running() or self._process.poll() is not None

    def _is_running(self) -> bool:
        return "Ctrl-C" in self._read_output()

    def _read_output(self) -> str:
        return self._output.read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name not in NOT_OURS},
            "MYCELIUM_HOME": str(self.state.home),
            "MYCELIUM_CACHE": CACHE,
            "SERVICE_CONTAINER_CLS": "tests.chaos.sabotage.Container",
            "CHAOS_FOLDER": str(self.chaos),
            "GATEWAY_TOKEN_SECONDS": "86400",
        }

    def stop(self) -> int:
        """Stop the mesh and return the exit code of `mycelium run`. Frozen processes are resumed first."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            with suppress(OSError, Fault):
                for process in self.processes():
                    self.signal_tree(process.pid, signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    @property
    def gateway_url(self) -> str:
        return self.settings["GATEWAY_URL"]

    def database_url(self, service: str) -> str:
        return self.settings["DATABASE_URL"].replace("{service}", service)

    def health_url(self, name: str) -> str:
        """Return the base URL of an instance's health checks. Its start script has the port."""
        if name == "gateway":
            return self.gateway_url
        port = self.program(name)["HEALTH_PORT"]
        return f"http://127.0.0.1:{port}"

    def answers(self, name: str, path: str = "/ready", seconds: float = PROBE_SECONDS) -> bool:
        try:
            with urllib.request.urlopen(self.health_url(name) + path, timeout=seconds) as response:
                return response.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def responds(self, name: str, seconds: float = PROBE_SECONDS) -> bool:
        """Return True if the process responds at all, healthy or not."""
        try:
            urllib.request.urlopen(f"{self.health_url(name)}/health", timeout=seconds).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def services(self) -> list[str]:
        """Return the names of the services' processes and the gateway."""
        return [process.name for process in self.processes() if process.group in ("services", "edge")]

    def unready(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the names of processes that are not ready."""
        wanted = self.services() if names is None else names
        up = ("RUNNING", "STARTING")
        stopped = [process.name for process in self.processes() if process.state not in up]
        return [*stopped, *(name for name in wanted if name not in stopped and not self.answers(name))]

    def wait_until_ready(self, names: Iterable[str] | None = None) -> float:
        """Wait until these processes are ready, by default all. Return the seconds that it took."""
        began = time.monotonic()

        def all_are_ready() -> bool:
            unready = self.unready(names)
            assert not unready, f"not ready after {READY_SECONDS} s: {', '.join(unready)}"
            return True

        eventually(all_are_ready, READY_SECONDS)
        return time.monotonic() - began

    def restart(self, services: Iterable[str]) -> None:
        """Kill and restart every instance of these services, with the mutants that are set now."""
        names = [name for service in services for name in self.instances(service)]
        for name in names:
            self.signal(name, signal.SIGKILL)
        eventually(lambda: all(self._is_new(name) for name in names), READY_SECONDS, "the restart")
        self.wait_until_ready()

    def _is_new(self, name: str) -> Any:
        return self.process(name).state in ("RUNNING", "STARTING") and self.answers(name)
