"""A folder for the data and logs of one run of a benchmark."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mycelium.state import ROOT


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder. It stays after an error, because its logs say what happened."""
    # SIGTERM raises SystemExit, so that every `with` block stops the processes that it has started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    home = ROOT / ".mycelium" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
