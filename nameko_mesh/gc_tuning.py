"""Settings of the garbage collector for a long-running server.

Gain: making the objects of a batch of calls takes a third of the time (`python -m bench.tricks.workers`).
Delete it when Python's collector no longer scans long-lived objects for each batch of new ones.
"""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 20_000
"""Allocations before the collector looks for cycles. Python's default is 700, which one batch exceeds."""


def freeze_startup_objects() -> None:
    """Exclude all objects that exist now from later collections, because they live as long as the process.

    Call it when the process has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
