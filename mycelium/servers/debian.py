"""Debian's and Ubuntu's own packages, unpacked into a folder: no root, nothing of the machine changed.

apt works on a private configuration: the machine's network settings, its sources (those of the
distribution alone), its keys, but lists and archives of our own. No host is named here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mycelium.servers.private import write_private
from mycelium.servers.program import NotReady, ServerError, wait_until
from mycelium.servers.sources import Release, distribution_sources

Say = Callable[[str], None]

COMMAND_SECONDS = 300.0
LOCK_SECONDS = 600.0
LISTS_ARE_FRESH_SECONDS = 6 * 3600.0

# Never mixed with the machine's: its loader only works with its own C library.
ALWAYS_THE_MACHINES = ("libc6", "libc-bin", "libc6-*", "gcc-*-base")

SETTINGS = """
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{apt}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{apt}/lists";
Dir::Cache "{apt}/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "15";
Acquire::https::Timeout "15";
Debug::NoLocking "true";
"""


def unpacked(
    name: str,
    packages: Sequence[str],
    cache: Path,
    say: Say,
    *,
    drop: Sequence[str] = (),
    previous_release: bool = False,
    finish: Callable[[Path], None] = lambda root: None,
) -> Path:
    """The folder with `packages` and what the machine lacks of their dependencies in it.

    Fetched on the first call, into `cache`; `drop` holds patterns of dependencies to leave out, and
    `finish` mends the new folder before it counts as there. Raises ServerError when the machine has
    no apt, no such package or no network.
    """
    root = cache.resolve() / "roots" / name
    if root.is_dir():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ServerError(f"{name} can't be fetched: this machine has no apt-get and dpkg")
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "roots" / f".{name}.lock", say):
        if root.is_dir():
            return root
        release = Release.of_machine()
        apt = Apt(cache.resolve() / "apt", release.previous() if previous_release else release)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{name}-") as unfinished:
            started = time.monotonic()
            say(f"Fetching {name} ({apt.release.codename} packages)")
            folder = Path(unfinished)
            apt.unpack(packages, folder / "root", folder / "archives", drop)
            finish(folder / "root")
            (folder / "root").rename(root)
            say(f"Fetched {name} in {time.monotonic() - started:.1f} s")
    return root


def environment_of(root: Path) -> dict[str, str]:
    """What a program of an unpacked folder needs to find its libraries and its neighbours."""
    libraries = sorted({str(library.parent) for library in root.glob("**/lib/*-linux-*/*.so*")})
    path = [str(root / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    found = {"PATH": os.pathsep.join([*path, os.environ.get("PATH", os.defpath)])}
    if libraries:
        found["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return found


class Apt:
    """apt on its own configuration, for one release of the distribution."""

    def __init__(self, base: Path, release: Release) -> None:
        self.release = release
        self.folder = base / release.codename

    def unpack(self, packages: Sequence[str], root: Path, archives: Path, drop: Sequence[str]) -> None:
        """Download the packages and their missing dependencies to `archives`, unpack into `root`."""
        archives.mkdir(parents=True)
        root.mkdir(parents=True)
        self._configure()
        fresh = self._update()
        try:
            self._download(packages, archives, drop)
        except ServerError:
            if fresh:
                raise
            self._update(force=True)  # the lists name files that the archive has replaced since
            self._download(packages, archives, drop)
        for archive in sorted(archives.glob("*.deb")):
            self._run("dpkg", "-x", str(archive), str(root))

    def _configure(self) -> None:
        for folder in ("sources", "lists/partial", "cache/archives/partial"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "sources" / "distribution.sources").write_text(distribution_sources(self.release))
        # The machine's proxy and the like hold, its hooks and its other settings do not.
        machine = self._run("apt-config", "dump", environment={})
        network = [line for line in machine.splitlines() if line.startswith("Acquire::")]
        settings = "\n".join(network) + SETTINGS.format(apt=self.folder)
        write_private(self._settings, settings)  # a proxy's address may hold a password

    @property
    def _settings(self) -> Path:
        return self.folder / "apt.conf"

    def _update(self, force: bool = False) -> bool:
        """Refresh the lists unless that was done lately; say whether it was done now."""
        stamp = self.folder / "updated"
        with contextlib.suppress(FileNotFoundError):
            if not force and time.time() - stamp.stat().st_mtime < LISTS_ARE_FRESH_SECONDS:
                return False
        self._run("apt-get", "-q", "update")
        stamp.touch()
        return True

    def _download(self, packages: Sequence[str], archives: Path, drop: Sequence[str]) -> None:
        plan = self._run("apt-get", "-q", "--simulate", "install", *packages)
        missing = dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", plan, re.MULTILINE))
        unwanted = (*drop, *ALWAYS_THE_MACHINES)
        wanted = [
            f"{name}={version}"
            for name, version in missing.items()
            if name not in packages and not any(fnmatch(name, pattern) for pattern in unwanted)
        ]
        # Those asked for come along even where the machine has them installed.
        self._run("apt-get", "-q", "download", *packages, *wanted, directory=archives)

    def _run(
        self, *command: str, directory: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        if environment is None:
            environment = {"APT_CONFIG": str(self._settings)}
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"{command[0]} failed: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise ServerError(f"{' '.join(command[:4])} ... failed: {said[-1]}")
        return done.stdout


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock on `path`; another process that fetches the same is waited for."""
    with path.open("w") as file:
        if not _lock(file.fileno()):
            say("Waiting for another process that fetches the same")
            try:
                wait_until(lambda: _lock(file.fileno()), LOCK_SECONDS, f"the lock {path}")
            except NotReady as error:
                raise ServerError(f"Another process has been fetching for too long: {error}") from error
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
