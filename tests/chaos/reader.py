"""`python -m tests.chaos.reader URL`: reads a URL repeatedly, and prints status and seconds of each read.

It has its own process, because the customers' event loop is busy while hundreds order at once. The waits of
that loop would look like waits of the mesh.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE_SECONDS = 0.05
RESPONSE_TIMEOUT_SECONDS = 15.0


@contextmanager
def reading(url: str, output: Path) -> Iterator[None]:
    """Read the URL in a process until the end of the block. `reads` returns the results."""
    with output.open("wb") as file:
        reader = subprocess.Popen([sys.executable, "-m", __name__, url], stdout=file)
        try:
            yield
        finally:
            reader.terminate()
            reader.wait()


def reads(output: Path) -> list[tuple[int, float]]:
    """Return status and seconds of each read."""
    pairs = [line.split() for line in output.read_text().splitlines()]
    return [(int(status), float(seconds)) for status, seconds in pairs]


def main(url: str) -> None:
    while True:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=RESPONSE_TIMEOUT_SECONDS) as response:
                status = response.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        print(status, f"{time.monotonic() - began:.4f}", flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
