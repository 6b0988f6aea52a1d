"""Debian's and Ubuntu's own packages, unpacked into a folder: no root, nothing of the machine changed."""

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
    """The folder with `packages` and what the machine lacks of their dependencies in it.

    Fetched on the first call, into `cache`. Dependencies that match the pattern `family` come along
    even where the machine has them, those that match one of `drop` never. With `earlier_release`, what
    the machine's release has dropped is taken from an earlier one. `finish` mends the new folder before
    it counts as there. Raises ServerError when the machine has no apt, no such package or no network.
    """
    root = cache.resolve() / "roots" / name
    if root.is_dir():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ServerError(f"{name} can't be fetched: this machine has no apt-get and dpkg")
    root.parent.mkdir(parents=True, exist_ok=True)
    release = Release.of_machine()
    apt = Apt(cache.resolve() / "apt", release.with_earlier() if earlier_release else release)
    with _locked(apt.folder / "fetching.lock", say):  # one at a time: they share apt's lists
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
    """What a program of an unpacked folder needs to find its libraries and its neighbours."""
    libraries = sorted({str(library.parent) for library in root.glob("**/lib/*-linux-*/*.so*")})
    path = [str(root / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    found = {"PATH": os.pathsep.join([*path, os.environ.get("PATH", os.defpath)])}
    if libraries:
        found["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return found


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock on `path`; whoever else fetches packages is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not _lock(file.fileno()):
            say("Waiting for other packages to be fetched")
            try:
                wait_until(lambda: _lock(file.fileno()), LOCK_TIMEOUT_SECONDS, f"the lock {path}")
            except NotReady as error:
                raise ServerError(
                    f"Somebody else has been fetching packages for too long: {error}"
                ) from error
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
