"""The mesh under test: `mycelium run` in a state folder of its own, on servers of its own."""

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
    """Two instances of each service but users, which has one; the mails land in files."""

    def __init__(self, folder: Path, *, postgresql: bool = True) -> None:
        self.folder = folder
        self.is_postgresql = postgresql
        self.chaos = folder / "chaos"
        super().__init__(State(folder / "state"))
        self._output = folder / "output.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the first order has been placed. Raises RuntimeError with the output."""
        self.chaos.mkdir(parents=True, exist_ok=True)
        for tries_left in reversed(range(STARTS)):
            self._launch()
            eventually(self._is_decided, START_SECONDS, "the mesh")
            if self._is_running():
                self.settings = self.state.environment()
                return
            if not tries_left:  # another mesh on this machine may take a port that was free just now
                raise RuntimeError(f"the mesh did not start:\n{self._said()}")

    def _launch(self) -> None:
        scale = ",".join(f"{service}={number}" for service, number in SCALE.items())
        command = [sys.executable, "-m", "mycelium", "run", "--scale", scale, "--port", str(free_port())]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # Dead harness, no mesh: nothing is left behind, whoever kills us.
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
        return "Ctrl-C" in self._said()

    def _said(self) -> str:
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
        """The exit code of `mycelium run`; what is frozen is woken first, so that it can leave."""
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
        """Of a service's instance, without a path: the port is in the script that starts it."""
        if name == "gateway":
            return self.gateway_url
        port = self.program(name)["HEALTH_PORT"]
        return f"http://127.0.0.1:{port}"

    def answers(self, name: str, path: str = "/ready", seconds: float = PROBE_SECONDS) -> bool:
        try:
            with urllib.request.urlopen(self.health_url(name) + path, timeout=seconds) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def responds(self, name: str, seconds: float = PROBE_SECONDS) -> bool:
        """Whether the process answers at all, be it that it is unwell."""
        try:
            urllib.request.urlopen(f"{self.health_url(name)}/health", timeout=seconds).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def services(self) -> list[str]:
        """The names of every process that is ours: the services' and the gateway."""
        return [one.name for one in self.processes() if one.group in ("services", "edge")]

    def unready(self, names: Iterable[str] | None = None) -> list[str]:
        """Those that do not work yet."""
        by_name = {one.name: one for one in self.processes()}
        wanted = self.services() if names is None else names
        stopped = [one.name for one in by_name.values() if one.state not in ("RUNNING", "STARTING")]
        return [*stopped, *(one for one in wanted if one not in stopped and not self.answers(one))]

    def wait_until_ready(self, names: Iterable[str] | None = None) -> float:
        """How many seconds it took until they all work (all services, unless told)."""
        began = time.monotonic()

        def nobody_is_missing() -> bool:
            missing = self.unready(names)
            assert not missing, f"not ready after {READY_SECONDS} s: {', '.join(missing)}"
            return True

        eventually(nobody_is_missing, READY_SECONDS)
        return time.monotonic() - began

    def restart(self, services: Iterable[str]) -> None:
        """Every instance of these services anew, with what `chaos` says now."""
        names = [name for service in services for name in self.instances(service)]
        for name in names:
            self.signal(name, signal.SIGKILL)
        eventually(lambda: all(self._is_new(name) for name in names), READY_SECONDS, "the restart")
        self.wait_until_ready()

    def _is_new(self, name: str) -> Any:
        return self.process(name).state in ("RUNNING", "STARTING") and self.answers(name)
