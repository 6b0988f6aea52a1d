"""The machine that is measured on: what it is, and whether others keep it busy."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from bench.servers import CACHE
from mycelium.servers import postgresql

MAX_FOREIGN_CORES = 0.3
"""Of CPU that others use: with more than that, figures are not to be trusted."""
_PACKAGES = (
    "nameko", "nameko-grpc", "eventlet", "kombu", "sqlalchemy", "psycopg2-binary", "grpcio",
    "fastapi", "uvicorn", "django", "flask", "gunicorn",
)  # fmt: skip
_POLL_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


def busy() -> float:
    """Seconds of CPU that all processes have had so far, and what the host took from this machine.

    Interrupts are left out: no process is charged for them.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, steal = fields[0], fields[1], fields[2], fields[7]
    return (user + nice + system + steal) / _TICKS


def wait_until_quiet(seconds: float) -> bool:
    """Wait until all is idle, `seconds` at most. Returns whether it is."""
    end = time.monotonic() + seconds
    while True:
        before = busy()
        time.sleep(_POLL_SECONDS)
        if (busy() - before) / _POLL_SECONDS <= MAX_FOREIGN_CORES:
            return True
        if time.monotonic() > end:
            return False


def describe(folder: Path) -> dict[str, str]:
    """For the report. `folder` is where the databases lie: what its disk takes for an fsync is measured."""
    return {
        "CPU": f"{os.cpu_count()} cores of {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB",
        "system": f"{_distribution()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        **_versions(),
        "fsync": f"{_fsync_ms(folder):.2f} ms (median of 200 writes of 8 kB)",
    }


def _versions() -> dict[str, str]:
    postgres = postgresql.find_or_fetch(CACHE, lambda text: None)
    command = [str(postgres.binaries / "postgres"), "--version"]
    environment = {**os.environ, **postgres.environment}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rabbits = [
        found.name.rpartition("-")[2]
        for root in (Path("/"), CACHE / "roots/rabbitmq")
        for found in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")
    ]
    return {
        "PostgreSQL": answer.stdout.split()[2],
        "RabbitMQ": rabbits[0] if rabbits else "unknown",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown system"


def _fsync_ms(folder: Path) -> float:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(200):
            file.write(b"x" * 8192)
            file.flush()
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - before)
    return statistics.median(times) * 1000
