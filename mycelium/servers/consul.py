"""A private Consul agent, from the installed program or from an earlier Debian release's package."""

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
"""The agent sends no version check. Development mode sets Raft's timers very short; ten times longer timers
halve the CPU of an idle agent."""


@dataclass(frozen=True)
class Ports:
    """The ports of an agent on the loopback. `serf` is used for TCP and UDP."""

    http: int
    server: int
    serf: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(3))


@dataclass(frozen=True)
class Consul:
    """An agent that can be started: a data centre of one server.

    The agent stores nothing. After a restart the catalogue is empty until the services register again.
    """

    programs: tuple[Program, ...]
    ports: Ports

    @property
    def http_addr(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def is_ready(self) -> bool:
        """Return whether the catalogue accepts registrations: the agent leads and lists itself.

        Takes 0.8 s at most.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=READY_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            try:
                # Not /v1/status/leader, which names the agent a moment before it accepts writes.
                connection.request("GET", "/v1/catalog/service/consul")
                response = connection.getresponse()
                return response.status == 200 and bool(json.loads(response.read()))
            except (OSError, http.client.HTTPException, ValueError):
                return False


@dataclass(frozen=True)
class Installation:
    """An installed or fetched Consul program. It can run any number of agents."""

    binary: Path
    environment: Mapping[str, str]

    def agent(self, data: Path, ports: Ports | None = None) -> Consul:
        """Return an agent that works in the folder `data`. Raises ServerError if Consul does not run."""
        data, ports = data.resolve(), ports or Ports.free()
        data.mkdir(parents=True, exist_ok=True)
        settings = data / "consul.hcl"
        settings.write_text(SETTINGS)
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
                *self._listener_flags(ports),
            ),
            directory=data,
            environment=self.environment,
            stop_seconds=STOP_SECONDS,
        )
        return Consul((program,), ports)

    def _listener_flags(self, ports: Ports) -> list[str]:
        """Return the port flags that this release knows, because releases refuse unknown flags."""
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
        help_text = self._help()
        return [f"-{flag}={port}" for flag, port in listeners.items() if f"-{flag}=" in help_text]

    def _help(self) -> str:
        try:
            done = subprocess.run(
                (str(self.binary), "agent", "-help"),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=HELP_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"{self.binary} does not run: {error}") from error
        return done.stdout + done.stderr


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation | None:
    """Return the installed Consul or a fetched one, or None after saying why there is none.

    The mesh runs without Consul, on static addresses. `use_machine=False` ignores an installed Consul.
    """
    if use_machine and (installed := shutil.which("consul")):
        return Installation(Path(installed), {})
    try:
        root = unpacked("consul", ["consul"], cache, say, earlier_release=True)
    except ServerError as error:
        say(f"Consul is not installed and cannot be fetched: {error}")
        return None
    return Installation(root / "usr/bin/consul", environment_of(root))
