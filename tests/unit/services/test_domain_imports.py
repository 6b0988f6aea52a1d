"""Imports of the domains. import-linter forbids named packages; this test forbids all that is not allowed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from mycelium.state import ROOT

DOMAINS = sorted((ROOT / "services").glob("*/domain.py"))
PURE = [ROOT / "services" / "rules.py", ROOT / "services" / "products" / "reservations.py", *DOMAINS]
ALLOWED = {"services.rules", "services.products.domain", "uuid_utils"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_domain_imports_nothing_but_the_allowed_modules(path):
    others = {name for name in imported(path) if name.split(".")[0] not in sys.stdlib_module_names}
    assert others <= ALLOWED
    assert path.name != "rules.py" or not others


def test_every_service_has_a_domain():
    assert len(DOMAINS) == 4
