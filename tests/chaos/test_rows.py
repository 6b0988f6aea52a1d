"""Every row in short form, on the same mesh. `python -m tests.chaos` plays full forms and controls."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.mesh import Mesh
from tests.chaos.rows import Row, every_row
from tests.chaos.runner import Runner


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A runner on a mesh. A failed row keeps the mesh's folder, and CHAOS_SEED repeats a run."""
    seed = int(os.environ.get("CHAOS_SEED", secrets.randbelow(10**6)))
    mesh = Mesh(Path(tempfile.mkdtemp(prefix="mycelium-chaos-")))
    try:
        mesh.start()
        yield Runner(mesh, seed)
    finally:
        code = mesh.stop()
    assert code == 0, f"the mesh ended with {code}: see {mesh.folder}"
    if not request.session.testsfailed:
        shutil.rmtree(mesh.folder, ignore_errors=True)


@pytest.mark.parametrize("row", every_row(), ids=lambda row: row.name)
def test_row(runner: Runner, row: Row, capsys: pytest.CaptureFixture[str], record_result: Any) -> None:
    result = runner.play(row, short=True)
    if not result.passed:  # a busy machine may miss a time limit
        with capsys.disabled():
            print(f"\n{result.explain()}\n{row.name} is played a second time")
        result = runner.play_again(result)
    record_result(result)
    assert result.passed, result.explain()
