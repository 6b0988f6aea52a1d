"""The state folder of a mesh: settings, secrets, logs, data and cached servers, under `.mycelium/`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mycelium.servers.private_file import write_private

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

_SECRETS = ("ALICE_PASSWORD", "BOB_PASSWORD", "ADMIN_PASSWORD", "JWT_SECRET")
_MAX_SOCKET_PATH_LENGTH = 100  # sun_path holds 108 bytes, and the supervisor appends a suffix


class AlreadyRunning(Exception):
    """Another process runs a mesh from this state folder. The message is its pid."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the mesh: its name, its service and its address."""

    name: str
    service: str
    address: str | None


class State:
    """The state folder: `MYCELIUM_HOME`, or `.mycelium` in the checkout."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = (home or Path(os.environ.get("MYCELIUM_HOME", ROOT / ".mycelium"))).resolve()
        self.env_file = self.home / "env"
        self.logs = self.home / "logs"
        self.data = self.home / "data"
        self.programs = self.home / "programs"
        self.cache = Path(os.environ.get("MYCELIUM_CACHE", self.home / "cache")).resolve()
        self.supervisor_config = self.home / "supervisord.conf"
        self.supervisor_log = self.logs / "supervisord.log"

    @property
    def is_own(self) -> bool:
        """Return whether this is the checkout's own state folder."""
        return self.home == ROOT / ".mycelium"

    @property
    def socket(self) -> Path:
        """The supervisor's socket, in the temporary folder if the state folder's path is too long."""
        path = self.home / "supervisor.sock"
        if len(str(path)) <= _MAX_SOCKET_PATH_LENGTH:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"mycelium-{digest}.sock"

    def make(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.logs, self.data, self.programs, self.cache, self.home / "outbox"):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the process that runs the mesh. Raises AlreadyRunning."""
        with (self.home / "lock").open("a+") as lock:
            _lock(lock)
            yield

    def secrets(self) -> dict[str, str]:
        """Return the seed users' passwords and the signing key, which are generated once and kept.

        The environment overrides them, because a database older than this folder has other passwords.
        """
        path = self.home / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = {name: secrets.token_urlsafe(24) for name in _SECRETS if name not in kept}
        if missing:
            kept |= missing
            write_private(path, json.dumps(kept, indent=2))
        return kept | {name: os.environ[name] for name in _SECRETS if os.environ.get(name)}

    def write_env(self, values: Mapping[str, str]) -> None:
        """Write KEY=value lines, which `set -a; . .mycelium/env; set +a` exports in a shell."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        write_private(self.env_file, "".join(lines))

    def environment(self) -> dict[str, str]:
        """Return what `write_env` has written, or an empty dict when no mesh runs."""
        if not self.env_file.exists():
            return {}
        pairs = (shlex.split(line)[0].partition("=") for line in self.env_file.read_text().splitlines())
        return {name: value for name, _, value in pairs}

    def write_members(self, members: list[Member]) -> None:
        write_private(self.home / "members.json", json.dumps([asdict(member) for member in members]))

    def forget_what_ran(self) -> None:
        """Remove the addresses that `write_env` and `write_members` wrote, because nothing answers there."""
        (self.home / "members.json").unlink(missing_ok=True)
        self.env_file.unlink(missing_ok=True)

    def members(self) -> list[Member]:
        path = self.home / "members.json"
        return [Member(**member) for member in json.loads(path.read_text())] if path.exists() else []


def _lock(file: IO[Any]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        raise AlreadyRunning(pid) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
