"""Imported packages are declared in pyproject.toml, and private parts come from pinned packages."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest

from mycelium.state import ROOT

OWN = {"nameko_mesh", "services", "gateway", "mycelium", "protos", "bench", "tests"}
INSTALLED = packages_distributions()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)

RUNTIME: list[str] = PROJECT["project"]["dependencies"]
GROUPS: Mapping[str, list[str]] = PROJECT["dependency-groups"]
MAY_IMPORT = {
    "nameko_mesh": RUNTIME,
    "services": RUNTIME,
    "gateway": RUNTIME,
    "mycelium": RUNTIME,
    "protos": RUNTIME,
    "bench": [*RUNTIME, *GROUPS["bench"]],
    "tests": [*RUNTIME, *GROUPS["dev"]],
}


def normalized(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of_requirement(requirement: str) -> str:
    return normalized(re.match(r"[\w.-]+", requirement)[0])


def imports(package: str) -> Iterator[tuple[Path, str, list[str]]]:
    """Yield the file, module and imported names of each import of a module outside the repository."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = [(alias.name, []) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = [(node.module, [alias.name for alias in node.names])]
            else:
                continue
            for module, names in found:
                if module.partition(".")[0] not in OWN | sys.stdlib_module_names:
                    yield path, module, names


@cache
def distributions(module: str) -> frozenset[str]:
    """Return the distributions that provide a module. An unknown package counts as its own distribution.

    Several distributions share the namespace `google`, so their files decide.
    """
    top = module.partition(".")[0]
    candidates = set(INSTALLED.get(top, [top]))
    if len(candidates) > 1:
        prefix = module.replace(".", "/")
        candidates = {name for name in candidates if any(str(f).startswith(prefix) for f in files(name))}
    return frozenset(map(normalized, candidates))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imported_packages_are_declared(package: str) -> None:
    declared = {distribution_of_requirement(requirement) for requirement in MAY_IMPORT[package]}

    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path, module, _ in imports(package)
        if not distributions(module) & declared
    }

    assert undeclared == set()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# protos is left out, because its generated code checks the version of grpcio itself.
@pytest.mark.parametrize("package", sorted(MAY_IMPORT.keys() - {"tests", "protos"}))
def test_private_parts_are_imported_from_pinned_packages_only(package: str) -> None:
    pinned = {
        distribution_of_requirement(requirement)
        for requirement in MAY_IMPORT[package]
        if re.search(r"==|<", requirement)
    }

    unpinned = {
        f"{path.relative_to(ROOT)}: {module}"
        for path, module, names in imports(package)
        if any(map(is_private, [*module.split("."), *names])) and not distributions(module) & pinned
    }

    assert unpinned == set()


def test_every_upper_bound_has_its_reason_beside_it() -> None:
    bounded = [line for line in PYPROJECT.splitlines() if re.match(r'\s+"[\w.-]+(\[\w+\])?[^"]*<', line)]
    assert [line for line in bounded if not re.search(r'",\s+# \w', line)] == []
