"""Run every `sh` block of the README, and check the paths and targets that it names."""

from __future__ import annotations

import re

import pytest

from mycelium.state import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
EXPECTED = ['"status":"confirmed"', "'status': 'confirmed'", 'name: "Laptop"']


def test_every_readme_block_has_an_expected_output():
    assert len(BLOCKS) == len(EXPECTED)


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=False)))
def test_readme_block_prints_its_expected_output(mesh, block, expected):
    script = block.replace(". .mycelium/env", f". {mesh.command.home}/env")
    done = mesh.command.run(["bash", "-euo", "pipefail", "-c", script])
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.replace('": "', '":"')


def test_paths_in_the_readme_exist():
    named = re.findall(r"`([a-z_]+(?:/[a-z_.]+)*/?)`", README)
    paths = [name for name in named if "/" in name and not name.startswith((".", "migrations"))]
    missing = [name for name in paths if not (ROOT / name).exists()]
    assert missing == []


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)) - {"is"}:
        assert f"\n{target}:" in makefile, target
