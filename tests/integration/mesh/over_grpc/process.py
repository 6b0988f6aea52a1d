"""A service in its own process, which can be stopped and whose memory can be measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mycelium.servers import free_port
from mycelium.state import ROOT
from tests.integration.mesh.over_grpc.stranger import Stranger
from tests.waiting import eventually

STOP_SECONDS = 30


class ServiceProcess:
    def __init__(self, process: subprocess.Popen[bytes], port: int, diary: Path) -> None:
        self.process = process
        self.port = port
        self._diary = diary

    def begun(self) -> list[str]:
        """Return the texts of the calls that a worker has begun."""
        return self._diary.read_text().splitlines()

    def memory(self, name: str) -> int:
        """Return the memory in bytes: VmRSS is the current size, VmHWM the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the service has ended: {self.process.returncode}")
        try:
            with Stranger(self.port) as client:
                return client.call() == "grpc 0"
        except OSError:
            return False


@contextmanager
def echo_process(folder: Path) -> Iterator[ServiceProcess]:
    port = free_port()
    settings = folder / "config.yml"
    settings.write_text(
        f"GRPC_BIND_PORT: {port}\nSERVICE_CONTAINER_CLS: nameko_mesh.runtime.Container\nmax_workers: 40\n"
    )
    command = [sys.executable, "-W", "ignore", "-m", "nameko", "run", "--config", str(settings)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "tests.integration.mesh.over_grpc.echo:EchoService"],
            cwd=ROOT,
            env=os.environ | {"ECHO_DIARY": str(folder / "diary")},
            stderr=log,
        )
    service = ServiceProcess(process, port, folder / "diary")
    try:
        eventually(service.answers, 60)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
