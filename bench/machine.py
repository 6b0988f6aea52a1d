"""Describe the machine, and detect CPU that other processes use."""

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
"""CPU that other processes may use during a run. Above this limit a round counts as noisy."""
_PACKAGES = (
    "nameko", "nameko-grpc", "eventlet", "kombu", "sqlalchemy", "psycopg2-binary", "grpcio",
    "fastapi", "uvicorn", "django", "flask", "gunicorn",
)  # fmt: skip
_POLL_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


def busy() -> float:
    """Return the CPU seconds of all processes so far, plus the time that the host has stolen.

    Interrupts are left out, because no process is charged for them.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, steal = fields[0], fields[1], fields[2], fields[7]
    return (user + nice + system + steal) / _TICKS


def wait_until_quiet(seconds: float) -> bool:
    """Wait up to `seconds` until the machine is idle. Return whether it is."""
    end = time.monotonic() + seconds
    while True:
        before = busy()
        time.sleep(_POLL_SECONDS)
        if (busy() - before) / _POLL_SECONDS <= MAX_FOREIGN_CORES:
            return True
        if time.monotonic() > end:
            return False


def describe(folder: Path) -> dict[str, str]:
    """Describe the machine for the report. An fsync is timed in `folder`, where the databases lie."""
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rabbit_versions = [
        path.name.rpartition("-")[2]
        for root in (Path("/"), CACHE / "roots/rabbitmq")
        for path in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")
    ]
    return {
        "PostgreSQL": done.stdout.split()[2],
        "RabbitMQ": rabbit_versions[0] if rabbit_versions else "unknown",
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
