"""apt on a configuration of its own, which changes nothing of the machine and takes no root.

It has the machine's network settings, its keys and those of its sources that are the distribution's,
but lists and archives of its own. No host is named here.
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

# Never mixed with the machine's: its loader only works with its own C library.
NEVER_UNPACKED = ("libc6", "libc-bin", "libc6-*", "gcc-*-base")

KINDS_APART_FROM_DEPENDS = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")

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
    """apt on its own configuration."""

    def __init__(self, base: Path, release: Release) -> None:
        self.release = release
        self.folder = base / str(release)

    def unpack(
        self, packages: Sequence[str], root: Path, archives: Path, family: str | None, drop: Sequence[str]
    ) -> None:
        """Download the packages and their missing dependencies to `archives`, unpack into `root`."""
        archives.mkdir(parents=True)
        root.mkdir(parents=True)
        self._configure()
        if not (self._lists_are_fresh() and self._download(packages, archives, family, drop) is None):
            # Also when the lists name files that the archive has replaced since.
            trouble = self._refresh_lists()
            if failure := self._download(packages, archives, family, drop):
                raise trouble or failure
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
        """Returns what went wrong, for it may not matter: a source that we can do without is gone, say."""
        try:
            self._run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        except ServerError as error:
            return error
        self._stamp.touch()
        return None

    def _plan(self, packages: Sequence[str], family: str | None, drop: Sequence[str]) -> list[str]:
        """What to download: those asked for, their family, and what the machine lacks for them."""
        simulated = self._run("apt-get", "-q", "--simulate", "install", *packages)
        missing = re.findall(r"^Inst (\S+) ", simulated, re.MULTILINE)
        relatives = self._installed_family(packages, family) if family else []
        needed = dict.fromkeys([*packages, *missing, *relatives])
        unwanted = {name for each in (*drop, *NEVER_UNPACKED) for name in fnmatch.filter(needed, each)}
        return [name for name in needed if name not in unwanted]

    def _installed_family(self, packages: Sequence[str], family: str) -> list[str]:
        """The dependencies of that family which the plan leaves out, because the machine has them."""
        depends_alone = [f"--no-{kind}" for kind in KINDS_APART_FROM_DEPENDS]
        tree = self._run("apt-cache", "depends", "--recurse", *depends_alone, *packages)
        related = set(fnmatch.filter(re.findall(r"^(\w\S*)$", tree, re.MULTILINE), family))
        installed = self._run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\n")
        return [name for name in re.findall(r"^ii +(\S+)$", installed, re.MULTILINE) if name in related]

    def _download(
        self, packages: Sequence[str], archives: Path, family: str | None, drop: Sequence[str]
    ) -> ServerError | None:
        try:
            wanted = self._plan(packages, family, drop)
            self._run("apt-get", "-q", "download", *wanted, directory=archives)
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
            said = (done.stderr or done.stdout).strip().splitlines()
            reasons = [line for line in said if line.startswith("E: ")] or said or ["no output"]
            raise ServerError(f"{command[0]} failed: {reasons[0].removeprefix('E: ')}")
        return done.stdout
