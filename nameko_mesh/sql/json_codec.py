"""JSON columns through orjson."""

from __future__ import annotations

from typing import Any

import orjson


def to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
