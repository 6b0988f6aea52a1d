"""`python -m tests.chaos.reader URL`: reads it over and over, and prints status and seconds of each time.

A process of its own, because the customers' event loop is busy while hundreds order at once, and its
waits would be taken for the mesh's.
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
ANSWER_SECONDS = 15.0


@contextmanager
def reading(url: str, output: Path) -> Iterator[None]:
    """Somebody reads the URL until the end of the block; `reads` tells how it went."""
    with output.open("wb") as file:
        reader = subprocess.Popen([sys.executable, "-m", __name__, url], stdout=file)
        try:
            yield
        finally:
            reader.terminate()
            reader.wait()


def reads(output: Path) -> list[tuple[int, float]]:
    """Status and seconds of each."""
    pairs = [line.split() for line in output.read_text().splitlines()]
    return [(int(status), float(seconds)) for status, seconds in pairs]


def main(url: str) -> None:
    while True:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        print(status, f"{time.monotonic() - began:.4f}", flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
