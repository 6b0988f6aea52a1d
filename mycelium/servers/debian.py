"""Unpack Debian and Ubuntu packages into a folder, without root and without changing the machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mycelium.servers.apt import Apt
from mycelium.servers.program import NotReady, ServerError, wait_until
from mycelium.servers.sources import Release

Say = Callable[[str], None]

LOCK_TIMEOUT_SECONDS = 600.0


def unpacked(
    name: str,
    packages: Sequence[str],
    cache: Path,
    say: Say,
    *,
    family: str | None = None,
    drop: Sequence[str] = (),
    earlier_release: bool = False,
    finish: Callable[[Path], None] = lambda root: None,
) -> Path:
    """Return a folder with the packages and the dependencies that the machine lacks.

    The first call fetches them into `cache`.

    - `family`: dependencies that match this pattern are unpacked even if they are installed.
    - `drop`: dependencies that match one of these patterns are left out.
    - `earlier_release`: take packages that the machine's release has dropped from an earlier release.
    - `finish`: adapts the new folder before it is used.

    Raises ServerError when the machine has no apt, no such package or no network.
    """
    root = cache.resolve() / "roots" / name
    if root.is_dir():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ServerError(f"{name} cannot be fetched: this machine has no apt-get and dpkg")
    root.parent.mkdir(parents=True, exist_ok=True)
    release = Release.of_machine()
    apt = Apt(cache.resolve() / "apt", release.with_earlier() if earlier_release else release)
    with _locked(apt.folder / "fetching.lock", say):  # all processes share apt's lists, so they fetch in turn
        if root.is_dir():
            return root
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{name}-") as unfinished:
            started = time.monotonic()
            say(f"Fetching {name} ({apt.release} packages)")
            folder = Path(unfinished)
            apt.unpack(packages, folder / "root", folder / "archives", family, drop)
            finish(folder / "root")
            (folder / "root").rename(root)
            say(f"Fetched {name} in {time.monotonic() - started:.1f} s")
    return root


def environment_of(root: Path) -> dict[str, str]:
    """Return the variables with which a program of an unpacked folder finds its libraries and programs."""
    libraries = sorted({str(library.parent) for library in root.glob("**/lib/*-linux-*/*.so*")})
    path = [str(root / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    environment = {"PATH": os.pathsep.join([*path, os.environ.get("PATH", os.defpath)])}
    if libraries:
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return environment


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock on `path`. Waits for another process that fetches packages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not _lock(file.fileno()):
            say("Waiting for other packages to be fetched")
            try:
                wait_until(lambda: _lock(file.fileno()), LOCK_TIMEOUT_SECONDS, f"the lock {path}")
            except NotReady as error:
                raise ServerError(f"Another process fetches packages and does not finish: {error}") from error
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
