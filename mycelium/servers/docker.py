"""Run a server in Docker, as the last resort: a container in the foreground that ends with its client."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mycelium.servers.program import Program

VERSION_COMMAND = ("docker", "version", "--format", "{{.Server.Version}}")
TIMEOUT_SECONDS = 5.0


def answers() -> bool:
    """Return whether a Docker engine answers, because the client is often installed without an engine."""
    if shutil.which("docker") is None:
        return False
    try:
        version = subprocess.run(VERSION_COMMAND, capture_output=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return version.returncode == 0


def program(
    name: str,
    image: str,
    data: Path,
    *,
    mounted_at: str,
    ports: Mapping[int, int],
    environment: Mapping[str, str],
    stop_seconds: float,
) -> Program:
    """Return the program that runs `docker run` on the data folder.

    `ports` maps ports of the loopback to ports of the container.
    """
    container = f"mycelium-{name}-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"
    command = ["docker", "run", "--rm", "--init", "--name", container, "--volume", f"{data}:{mounted_at}"]
    if os.getuid():  # without --user, root would own the files in the data folder
        command += ["--user", f"{os.getuid()}:{os.getgid()}"]
    for outside, inside in ports.items():
        command += ["--publish", f"127.0.0.1:{outside}:{inside}"]
    for key, value in environment.items():
        command += ["--env", f"{key}={value}"]
    # A killed client leaves its container behind, and the container still holds the name.
    script = f"docker rm --force {container} >/dev/null 2>&1; exec {shlex.join([*command, image])}"
    return Program(name=name, command=("sh", "-c", script), directory=data, stop_seconds=stop_seconds)
