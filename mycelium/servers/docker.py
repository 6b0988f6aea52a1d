"""Docker as the last resort: a container in the foreground that goes away with its client."""

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
    """Whether there is an engine behind the client; the client alone is often there without one."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(VERSION_COMMAND, capture_output=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


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
    """`docker run` on the data folder; `ports` maps those of the loopback to the container's."""
    container = f"mycelium-{name}-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"
    command = ["docker", "run", "--rm", "--init", "--name", container, "--volume", f"{data}:{mounted_at}"]
    if os.getuid():
        command += ["--user", f"{os.getuid()}:{os.getgid()}"]  # else root's files end up in the folder
    for outside, inside in ports.items():
        command += ["--publish", f"127.0.0.1:{outside}:{inside}"]
    for key, value in environment.items():
        command += ["--env", f"{key}={value}"]
    # A client that was killed leaves its container behind, under the name that we need.
    cleared = f"docker rm --force {container} >/dev/null 2>&1; exec {shlex.join([*command, image])}"
    return Program(name=name, command=("sh", "-c", cleared), directory=data, stop_seconds=stop_seconds)
