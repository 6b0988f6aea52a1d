"""Download and unpack packages with apt on a private configuration, without root.

The configuration takes over the machine's network settings, keys and distribution sources. Lists and archives
are private, and the machine's own apt state stays unchanged.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mycelium.servers.private_file import write_private
from mycelium.servers.program import ServerError
from mycelium.servers.sources import Release, distribution_sources

COMMAND_TIMEOUT_SECONDS = 300.0
LISTS_MAX_AGE_SECONDS = 6 * 3600.0

# The machine's dynamic loader only works with its own C library.
NEVER_UNPACKED = ("libc6", "libc-bin", "libc6-*", "gcc-*-base")

DEPENDENCY_KINDS_TO_SKIP = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")

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


class Apt:
    """apt on a private configuration in `base`."""

    def __init__(self, base: Path, release: Release) -> None:
        self.release = release
        self.folder = base / str(release)

    def unpack(
        self, packages: Sequence[str], root: Path, archives: Path, family: str | None, drop: Sequence[str]
    ) -> None:
        """Download the packages and their missing dependencies to `archives`, and unpack them into `root`.

        `family` and `drop` are described in `mycelium.servers.debian.unpacked`. Raises ServerError.
        """
        archives.mkdir(parents=True)
        root.mkdir(parents=True)
        self._configure()
        if not (self._lists_are_fresh() and self._download(packages, archives, family, drop) is None):
            # Also after a failed download, because lists can name files that the archive has replaced.
            refresh_error = self._refresh_lists()
            if download_error := self._download(packages, archives, family, drop):
                raise refresh_error or download_error
        for archive in sorted(archives.glob("*.deb")):
            self._run("dpkg", "-x", str(archive), str(root))

    def _configure(self) -> None:
        for folder in ("sources", "lists/partial", "cache/archives/partial"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "sources" / "distribution.sources").write_text(distribution_sources(self.release))
        # Only network settings are taken over, such as a proxy; hooks and other settings are not.
        machine = self._run("apt-config", "dump", environment={})
        network = [line for line in machine.splitlines() if line.startswith("Acquire::")]
        settings = "\n".join(network) + SETTINGS.format(apt=self.folder)
        write_private(self._settings, settings)  # a proxy's address may hold a password

    @property
    def _stamp(self) -> Path:
        return self.folder / "updated"

    @property
    def _settings(self) -> Path:
        return self.folder / "apt.conf"

    def _lists_are_fresh(self) -> bool:
        try:
            return time.time() - self._stamp.stat().st_mtime < LISTS_MAX_AGE_SECONDS
        except FileNotFoundError:
            return False

    def _refresh_lists(self) -> ServerError | None:
        """Return the error, if any. It may not matter: a missing source may hold none of the packages."""
        try:
            self._run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        except ServerError as error:
            return error
        self._stamp.touch()
        return None

    def _plan(self, packages: Sequence[str], family: str | None, drop: Sequence[str]) -> list[str]:
        """Return what to download: the packages, their family, and dependencies that the machine lacks."""
        simulated = self._run("apt-get", "-q", "--simulate", "install", *packages)
        missing = re.findall(r"^Inst (\S+) ", simulated, re.MULTILINE)
        relatives = self._installed_family(packages, family) if family else []
        wanted = dict.fromkeys([*packages, *missing, *relatives])
        unwanted = {name for pattern in (*drop, *NEVER_UNPACKED) for name in fnmatch.filter(wanted, pattern)}
        return [name for name in wanted if name not in unwanted]

    def _installed_family(self, packages: Sequence[str], family: str) -> list[str]:
        """Return dependencies of the family that apt leaves out because they are installed."""
        depends_only = [f"--no-{kind}" for kind in DEPENDENCY_KINDS_TO_SKIP]
        tree = self._run("apt-cache", "depends", "--recurse", *depends_only, *packages)
        related = set(fnmatch.filter(re.findall(r"^(\w\S*)$", tree, re.MULTILINE), family))
        installed = self._run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\n")
        return [name for name in re.findall(r"^ii +(\S+)$", installed, re.MULTILINE) if name in related]

    def _download(
        self, packages: Sequence[str], archives: Path, family: str | None, drop: Sequence[str]
    ) -> ServerError | None:
        try:
            names = self._plan(packages, family, drop)
            self._run("apt-get", "-q", "download", *names, directory=archives)
        except ServerError as error:
            return error
        return None

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
                timeout=COMMAND_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"{command[0]} failed: {error}") from error
        if done.returncode:
            output = (done.stderr or done.stdout).strip().splitlines()
            reasons = [line for line in output if line.startswith("E: ")] or output or ["no output"]
            raise ServerError(f"{command[0]} failed: {reasons[0].removeprefix('E: ')}")
        return done.stdout
