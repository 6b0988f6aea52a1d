"""Which of the machine's apt sources are its distribution's own, written anew."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mycelium.servers.program import ServerError

APT = Path("/etc/apt")
POCKETS = ("", "-updates", "-security", "/updates")

# Where a package that a release has dropped was last seen.
EARLIER = {"trixie": "bullseye", "bookworm": "bullseye", "plucky": "jammy", "noble": "jammy"}


@dataclass(frozen=True)
class Release:
    """The machine's release, and an earlier one for what was dropped since."""

    codename: str
    earlier: str | None = None

    @classmethod
    def of_machine(cls) -> Release:
        """Raises ServerError on a distribution whose packages come from somewhere else."""
        try:
            described = platform.freedesktop_os_release()
        except OSError as error:
            raise ServerError("This machine does not say which distribution it runs") from error
        codename = described.get("UBUNTU_CODENAME") or described.get("VERSION_CODENAME")
        if not codename:
            raise ServerError(
                f"{described.get('PRETTY_NAME', 'This system')} is not a Debian or Ubuntu release"
            )
        return cls(codename)

    def with_earlier(self) -> Release:
        """The same, and the earlier one beside it when one is known."""
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
        """Its suites that belong to the machine's release, and the same ones of the earlier release."""
        ours = [suite for suite in self.suites if suite.startswith(release.codename)]
        pockets = [suite.removeprefix(release.codename) for suite in ours]
        return tuple(
            codename + pocket for codename in release.codenames for pocket in pockets if pocket in POCKETS
        )

    def is_the_distributions(self) -> bool:
        """Third parties name their suites after the release too; the key tells them apart."""
        if self.signed_by:
            return bool(re.search(r"/(debian|ubuntu)-archive-keyring\b", self.signed_by))
        return "main" in self.components.split()

    def stanza(self, suites: tuple[str, ...]) -> str:
        lines = [f"Types: deb\nURIs: {self.uris}\nSuites: {' '.join(suites)}\nComponents: {self.components}"]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def distribution_sources(release: Release, apt: Path = APT) -> str:
    """The sources of the distribution, as one deb822 file; ServerError when the machine has none."""
    every = [*_one_line_sources(apt), *_deb822_sources(apt)]
    usable = [source for source in every if source.is_the_distributions() and source.suites_of(release)]
    if not usable:
        raise ServerError(f"This machine has no apt source for the packages of {release.codename}")
    return "\n".join(source.stanza(source.suites_of(release)) for source in usable)


def _one_line_sources(apt: Path) -> Iterator[Source]:
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            found = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
            if found:
                options, uri, suite, components = found.groups()
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
