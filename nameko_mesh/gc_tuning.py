"""The interpreter's collector of cycles, told what a server is like."""

from __future__ import annotations

import gc

_YOUNG = 20_000
"""Objects that may come before the collector looks for cycles among them; by default it does after 700,
which a batch of orders makes several times over."""


def settle_in() -> None:
    """Once a process has started: what is there now stays until its end, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
