"""Find the machine's apt sources that belong to its distribution, and write them as one file."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mycelium.servers.program import ServerError

APT = Path("/etc/apt")
POCKETS = ("", "-updates", "-security", "/updates")

# The last release that had Consul, by release.
EARLIER = {"trixie": "bullseye", "bookworm": "bullseye", "plucky": "jammy", "noble": "jammy"}


@dataclass(frozen=True)
class Release:
    """The machine's release, and an earlier release for packages dropped since."""

    codename: str
    earlier: str | None = None

    @classmethod
    def of_machine(cls) -> Release:
        """Return the machine's release. Raises ServerError on a system that is not Debian or Ubuntu."""
        try:
            os_release = platform.freedesktop_os_release()
        except OSError as error:
            raise ServerError("this machine does not name its distribution") from error
        codename = os_release.get("UBUNTU_CODENAME") or os_release.get("VERSION_CODENAME")
        if not codename:
            raise ServerError(
                f"{os_release.get('PRETTY_NAME', 'This system')} is not a Debian or Ubuntu release"
            )
        return cls(codename)

    def with_earlier(self) -> Release:
        """Return this release with its earlier release, if `EARLIER` has it."""
        return replace(self, earlier=EARLIER.get(self.codename))

    def __str__(self) -> str:
        return "+".join(self.codenames)

    @property
    def codenames(self) -> tuple[str, ...]:
        return (self.codename, self.earlier) if self.earlier else (self.codename,)


@dataclass(frozen=True)
class Source:
    uris: str
    suites: tuple[str, ...]
    components: str
    signed_by: str

    def suites_of(self, release: Release) -> tuple[str, ...]:
        """Return the suites of the machine's release, and the same suites of the earlier release."""
        suites = [suite for suite in self.suites if suite.startswith(release.codename)]
        pockets = [suite.removeprefix(release.codename) for suite in suites]
        return tuple(
            codename + pocket for codename in release.codenames for pocket in pockets if pocket in POCKETS
        )

    def is_from_distribution(self) -> bool:
        """Return whether the distribution signs this source.

        The key decides, because third parties also name their suites after the release.
        """
        if self.signed_by:
            return bool(re.search(r"/(debian|ubuntu)-archive-keyring\b", self.signed_by))
        return "main" in self.components.split()

    def stanza(self, suites: tuple[str, ...]) -> str:
        lines = [f"Types: deb\nURIs: {self.uris}\nSuites: {' '.join(suites)}\nComponents: {self.components}"]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def distribution_sources(release: Release, apt: Path = APT) -> str:
    """Return the distribution's sources as a deb822 file. Raises ServerError when there are none."""
    sources = [*_one_line_sources(apt), *_deb822_sources(apt)]
    usable = [source for source in sources if source.is_from_distribution() and source.suites_of(release)]
    if not usable:
        raise ServerError(f"this machine has no apt source for the packages of {release.codename}")
    return "\n".join(source.stanza(source.suites_of(release)) for source in usable)


def _one_line_sources(apt: Path) -> Iterator[Source]:
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
            if match:
                options, uri, suite, components = match.groups()
                key = re.search(r"signed-by=(\S+)", options or "")
                yield Source(uri, (suite,), components.strip(), key.group(1) if key else "")


def _deb822_sources(apt: Path) -> Iterator[Source]:
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        text = "\n".join(line for line in path.read_text(errors="replace").splitlines() if line[:1] != "#")
        for stanza in re.split(r"\n\s*\n", text):
            fields = {
                name.lower(): " ".join(value.split())
                for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
            }
            if fields.get("enabled", "yes").lower() in ("no", "false"):
                continue
            if "deb" in fields.get("types", "").split() and "uris" in fields:
                yield Source(
                    fields["uris"],
                    tuple(fields.get("suites", "").split()),
                    fields.get("components", ""),
                    fields.get("signed-by", ""),
                )
