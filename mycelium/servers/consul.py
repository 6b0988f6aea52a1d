"""A Consul agent of our own: the machine's program, else the package of an earlier Debian release."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers.debian import Say, environment_of, unpacked
from mycelium.servers.program import Program, ServerError, free_ports

READY_TIMEOUT_SECONDS = 0.8
HELP_TIMEOUT_SECONDS = 10.0
STOP_SECONDS = 5.0
OFF = -1

SETTINGS = """disable_update_check = true
performance { raft_multiplier = 10 }
"""
"""Nobody is told, or asked, about new versions. In development mode the timers of Raft are very
short, for tests; ten times as long they take half of the CPU of an idle agent."""


@dataclass(frozen=True)
class Ports:
    """The listeners of an agent, all on the loopback; `serf` takes UDP as well."""

    http: int
    server: int
    serf: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(3))


@dataclass(frozen=True)
class Consul:
    """An agent that can be started. It is its own one-server data centre and remembers nothing:
    after a restart the catalogue is empty until the services register again."""

    programs: tuple[Program, ...]
    ports: Ports

    @property
    def http_addr(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def is_ready(self) -> bool:
        """Whether its catalogue is in use: it leads, and lists itself. Known within a second."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=READY_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            try:
                # Asked for its leader it names itself a moment before it takes writes.
                connection.request("GET", "/v1/catalog/service/consul")
                response = connection.getresponse()
                return response.status == 200 and bool(json.loads(response.read()))
            except (OSError, http.client.HTTPException, ValueError):
                return False


@dataclass(frozen=True)
class Installation:
    """Consul as it was found; it can run any number of agents."""

    binary: Path
    environment: Mapping[str, str]

    def agent(self, data: Path, ports: Ports | None = None) -> Consul:
        """Describe an agent that works in the folder `data`; raises ServerError if Consul won't run."""
        data, ports = data.resolve(), ports or Ports.free()
        data.mkdir(parents=True, exist_ok=True)
        settings = data / "consul.hcl"
        settings.write_text(SETTINGS)
        listeners = {
            "http-port": ports.http,
            "server-port": ports.server,
            "serf-lan-port": ports.serf,
            "serf-wan-port": OFF,
            "dns-port": OFF,
            "https-port": OFF,
            "grpc-port": OFF,
            "grpc-tls-port": OFF,
        }
        known = self._help()
        program = Program(
            name="consul",
            command=(
                str(self.binary),
                "agent",
                "-dev",
                "-node=mycelium",
                "-bind=127.0.0.1",
                "-client=127.0.0.1",
                "-log-level=warn",
                f"-config-file={settings}",
                # Each release has other listeners, and refuses flags that it does not know.
                *(f"-{flag}={port}" for flag, port in listeners.items() if f"-{flag}=" in known),
            ),
            directory=data,
            environment=self.environment,
            stop_seconds=STOP_SECONDS,
        )
        return Consul((program,), ports)

    def _help(self) -> str:
        try:
            asked = subprocess.run(
                (str(self.binary), "agent", "-help"),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=HELP_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"{self.binary} does not run: {error}") from error
        return asked.stdout + asked.stderr


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation | None:
    """The machine's Consul or one that was fetched; None, after saying why, when there is none.

    The mesh works without it, on static addresses. `use_machine=False` passes over what is installed.
    """
    if use_machine and (found := shutil.which("consul")):
        return Installation(Path(found), {})
    try:
        root = unpacked("consul", ["consul"], cache, say, earlier_release=True)
    except ServerError as error:
        say(f"Consul is not on this machine and can't be fetched: {error}")
        return None
    return Installation(root / "usr/bin/consul", environment_of(root))
