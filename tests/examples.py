"""The examples of the documentation, which tests run as they stand."""

from __future__ import annotations

import re

from mycelium.state import ROOT

_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def python_blocks(page: str) -> list[str]:
    """Return the Python blocks of a page, such as `docs/extending.md`."""
    return _PYTHON.findall((ROOT / page).read_text())
