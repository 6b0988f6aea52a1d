"""Run the containers of docker-compose.yml as plain processes, beside private servers on the loopback.

Each process runs its container's command and environment, in a folder with the image's files. Only host names
and ports are replaced.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mycelium.runner.process_plan import SERVICES
from mycelium.servers import Processes, Program, free_ports, postgresql
from mycelium.state import ROOT
from tests.contracts.repository.compose_file import Container, containers, copied, image_environment
from tests.e2e.compose_servers import Servers

START_TIMEOUT_SECONDS = 60
JOB_TIMEOUT_SECONDS = 60
PROBE_TIMEOUT_SECONDS = 10
ADDRESS = "127.0.0.1"
"""The address of every process. With Docker each container has a host name instead."""
LONG_RUNNING = (*SERVICES, "gateway")


class ComposeMesh:
    """The containers' processes. Their files and logs are in `folder`."""

    def __init__(self, servers: Servers, processes: Processes, folder: Path) -> None:
        self.servers = servers
        self.secrets = random_secrets(servers.broker.password)
        self.image = folder / "image"
        copy_image(self.image)
        self._programs = make_environment(folder / "environment")
        self._files = self._list()
        self.containers = {
            name: on_loopback(container, servers.addresses())
            for name, container in containers(self.secrets).items()
        }
        self._processes = processes

    def create_databases(self) -> None:
        """Run databases.sql, as PostgreSQL's image does on an empty volume."""
        server = self.servers.database
        subprocess.run(
            [server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(server.port),
             "-U", postgresql.USER, "-d", "postgres", "-f", "-"],
            input=(ROOT / "deploy/postgresql/databases.sql").read_bytes(),
            env={**os.environ, **server.program.environment, "PGPASSWORD": server.password,
                 "POSTGRES_PASSWORD": self.secrets["POSTGRES_PASSWORD"]},
            cwd="/",
            timeout=JOB_TIMEOUT_SECONDS,
            check=True,
        )  # fmt: skip

    def run_job(self, name: str) -> subprocess.CompletedProcess[bytes]:
        """Run a container that exits by itself."""
        return self._run(self.containers[name], self.containers[name].command, JOB_TIMEOUT_SECONDS)

    def start(self) -> None:
        for name in LONG_RUNNING:
            container = self.containers[name]
            command = tuple(self._command(container, container.command))
            self._processes.start(
                Program(name=name, command=command, directory=self.image, stop_seconds=container.stop_seconds)
            )

    def wait_until_healthy(self) -> None:
        """Wait for every health check. Raises NotReady, also when a process has ended."""
        for name in LONG_RUNNING:
            self._processes.wait_until(partial(self.is_healthy, name), START_TIMEOUT_SECONDS, name)

    def is_healthy(self, name: str) -> bool:
        """Run the container's health check."""
        container = self.containers[name]
        kind, *command = container.healthcheck
        assert kind == "CMD"
        return self._run(container, command, PROBE_TIMEOUT_SECONDS).returncode == 0

    def stop(self) -> dict[str, int]:
        """Send SIGTERM to all processes, as `docker compose down` does. Return their exit codes.

        Raises TimeoutExpired for a process that takes longer than its grace period.
        """
        for name in LONG_RUNNING:
            self._processes[name].send_signal(signal.SIGTERM)
        return {name: self._processes[name].wait(self.containers[name].stop_seconds) for name in LONG_RUNNING}

    def leftovers(self) -> list[str]:
        """Return the containers whose process group still has members."""
        return [name for name in LONG_RUNNING if _has_members(self._processes[name].pid)]

    def _list(self) -> set[Path]:
        return {path.relative_to(self.image) for path in self.image.rglob("*")}

    def written(self) -> set[Path]:
        """Return new files in the image's folder, because a container's file system is read-only."""
        return self._list() - self._files

    def kill(self) -> None:
        """Kill the processes that a failed test has left."""
        for name in LONG_RUNNING:
            if name in self._processes:
                program = Program(name=name, command=(), directory=self.image, stop_seconds=0)
                self._processes.stop(program)

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.containers['gateway'].environment['GATEWAY_PORT']}"

    def _command(self, container: Container, command: Sequence[str]) -> list[str]:
        """Return the command with the container's environment only."""
        environment = {
            "PATH": f"{self._programs}:{os.defpath}",
            **image_environment(self.image),
            **container.environment,
        }
        return ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]

    def _run(
        self, container: Container, command: Sequence[str], seconds: float
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self._command(container, command),
            cwd=self.image,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )


def random_secrets(broker_password: str) -> dict[str, str]:
    """Return random values for all names of .env.example, and the broker's own password."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    return {name: secrets.token_hex(32) for name in names} | {"RABBITMQ_PASSWORD": broker_password}


def copy_image(folder: Path) -> None:
    """Copy the files that the Dockerfile copies from the checkout."""
    folder.mkdir()
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def make_environment(folder: Path) -> Path:
    """Return the folder of a python and a nameko with the packages, but without the checkout."""
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    # A .pth file adds the packages of a folder, but not what the folder's own .pth files add.
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
    _, body = (Path(sys.executable).parent / "nameko").read_text().split("\n", 1)
    script = folder / "bin" / "nameko"
    script.write_text(f"#!{folder}/bin/python\n{body}")
    script.chmod(0o755)
    return script.parent


def on_loopback(container: Container, addresses: Mapping[str, str]) -> Container:
    """Replace host names by real addresses, and the container's own ports by free ports."""
    environment = dict(container.environment)
    own_ports = [name for name in environment if name.endswith("_PORT")]
    for name, port in zip(own_ports, free_ports(len(own_ports)), strict=True):
        environment[name] = str(port)
    for name, value in environment.items():
        for host, address in addresses.items():
            value = value.replace(host, address)
        environment[name] = "127.0.0.1" if value == "0.0.0.0" else value
    return replace(container, environment=environment)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
