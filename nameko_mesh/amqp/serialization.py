"""JSON and message properties, as kombu and py-amqp read them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import kombu.serialization
import orjson
from amqp import serialization
from kombu.utils import json as kombu_json

from nameko_mesh.amqp import frames

log = logging.getLogger(__name__)


JSON = "application/json"


_AS_KOMBU = (
    orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)


_general = serialization.PROPERTY_CLASSES[frames.BASIC]


def _properties(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """Those that are not what they say would end the loop that reads: without them the message is one that
    can't be read, and is dealt with as such."""
    with suppress(Exception):
        return frames.read_properties(buffer, offset)
    try:
        return _general(buffer, offset)  # type: ignore[no-any-return]
    except Exception as error:
        log.warning("a message with properties that can't be read: %s", error)
        return {}, len(buffer)


serialization.PROPERTY_CLASSES[frames.BASIC] = _properties


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=_AS_KOMBU)
    except TypeError:  # it has what JSON has not
        return str(kombu_json.dumps(value)).encode()


def _loads(text: str | bytes) -> Any:
    mark = "__type__" if isinstance(text, str) else b"__type__"
    return kombu_json.loads(text) if mark in text else orjson.loads(text)  # type: ignore[operator]


kombu.serialization.register("json", _dumps, _loads, JSON, "utf-8")
