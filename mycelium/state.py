"""Where a mesh that runs from this checkout keeps what it needs: all of it under `.mycelium/`."""

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

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

_SECRETS = ("ALICE_PASSWORD", "BOB_PASSWORD", "ADMIN_PASSWORD", "JWT_SECRET")
_MAX_SOCKET_PATH_LENGTH = 100  # sun_path holds 108 bytes, and the supervisor adds a suffix of its own


class AlreadyRunning(Exception):
    """Another process runs a mesh from this state folder."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the mesh as people know it."""

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
        """Whether it is the checkout's own folder, of which there is one."""
        return self.home == ROOT / ".mycelium"

    @property
    def socket(self) -> Path:
        """The supervisor's socket; elsewhere when the path here is longer than a socket's may be."""
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
        """For the one process that runs the mesh. Raises AlreadyRunning."""
        with (self.home / "lock").open("a+") as lock:
            _lock(lock)
            yield

    def secrets(self) -> dict[str, str]:
        """Passwords of the seed users and the key of the tokens: made at random once, then kept.

        Those that the environment names come first: a database that is older than this folder has them.
        """
        path = self.home / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = {name: secrets.token_urlsafe(24) for name in _SECRETS if name not in kept}
        if missing:
            kept |= missing
            self._write_private(path, json.dumps(kept, indent=2))
        return kept | {name: os.environ[name] for name in _SECRETS if os.environ.get(name)}

    def write_env(self, values: Mapping[str, str]) -> None:
        """KEY=value lines: `set -a; . .mycelium/env; set +a` makes them a shell's own."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        self._write_private(self.env_file, "".join(lines))

    def environment(self) -> dict[str, str]:
        """What `write_env` has written; empty when nothing has run here."""
        if not self.env_file.exists():
            return {}
        pairs = (shlex.split(line)[0].partition("=") for line in self.env_file.read_text().splitlines())
        return {name: value for name, _, value in pairs}

    def write_members(self, members: list[Member]) -> None:
        self._write_private(self.home / "members.json", json.dumps([asdict(member) for member in members]))

    def forget_what_ran(self) -> None:
        """Nobody answers any more at the addresses that `write_env` and `write_members` have told."""
        (self.home / "members.json").unlink(missing_ok=True)
        self.env_file.unlink(missing_ok=True)

    def members(self) -> list[Member]:
        path = self.home / "members.json"
        return [Member(**member) for member in json.loads(path.read_text())] if path.exists() else []

    def _write_private(self, path: Path, text: str) -> None:
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        unfinished.replace(path)


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
