"""The packages of the gateway: importing one module loads no other module of its package."""

import ast
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent


@pytest.mark.parametrize("path", sorted(ROOT.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_package_has_only_a_docstring(path):
    [docstring] = ast.parse(path.read_text()).body

    assert isinstance(docstring, ast.Expr)
