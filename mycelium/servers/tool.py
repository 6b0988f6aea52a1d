"""A single program, installed or unpacked from Debian's package of the same name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mycelium.servers.debian import Say, environment_of, unpacked
from mycelium.servers.program import ServerError


@dataclass(frozen=True)
class Tool:
    """A program's path, and the variables that it needs."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_or_fetch(
    name: str, cache: Path, say: Say, *, use_machine: bool = True, earlier_release: bool = False
) -> Tool:
    """Return the program. Raises ServerError.

    `use_machine=False` ignores an installed program.
    """
    if use_machine and (installed := shutil.which(name)):
        return Tool(Path(installed))
    root = unpacked(name, [name], cache, say, earlier_release=earlier_release)
    for folder in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if (root / folder / name).exists():
            return Tool(root / folder / name, environment_of(root))
    raise ServerError(f"the package {name} contains no program of that name")
