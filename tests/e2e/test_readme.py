"""The README's commands do what it says: every `sh` block of it is run, as it stands."""

from __future__ import annotations

import re

import pytest

from mycelium.state import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
EXPECTED = ['"status":"confirmed"', "'status': 'confirmed'", 'name: "Laptop"']


def test_each_block_has_its_expectation():
    assert len(BLOCKS) == len(EXPECTED)


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=False)))
def test_a_block_does_what_the_readme_says(mesh, block, expected):
    script = block.replace(". .mycelium/env", f". {mesh.command.home}/env")
    done = mesh.command.run(["bash", "-euo", "pipefail", "-c", script])
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.replace('": "', '":"')


def test_every_path_that_it_names_is_there():
    named = re.findall(r"`([a-z_]+(?:/[a-z_.]+)*/?)`", README)
    paths = [name for name in named if "/" in name and not name.startswith((".", "migrations"))]
    missing = [name for name in paths if not (ROOT / name).exists()]
    assert missing == []


def test_every_target_that_it_names_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)) - {"is"}:
        assert f"\n{target}:" in makefile, target
