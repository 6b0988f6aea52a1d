"""A single program of Debian's, the machine's or unpacked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mycelium.servers.debian import Say, environment_of, unpacked
from mycelium.servers.program import ServerError


@dataclass(frozen=True)
class Tool:
    """A program's file, and what to add to the environment to run it."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_or_fetch(
    name: str, cache: Path, say: Say, *, use_machine: bool = True, earlier_release: bool = False
) -> Tool:
    """The program of that name, from the package of that name; raises ServerError.

    `use_machine=False` passes over what is installed.
    """
    if use_machine and (found := shutil.which(name)):
        return Tool(Path(found))
    root = unpacked(name, [name], cache, say, earlier_release=earlier_release)
    for folder in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if (root / folder / name).exists():
            return Tool(root / folder / name, environment_of(root))
    raise ServerError(f"The package {name} holds no program of that name")
