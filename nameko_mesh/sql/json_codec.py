"""Encodes JSON columns by orjson, which returns bytes where SQLAlchemy expects text."""

from __future__ import annotations

from typing import Any

import orjson


def to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
