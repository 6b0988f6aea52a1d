"""`python -m mycelium.asyncapi [--check]`: describes every event in docs/asyncapi.json, from the code.

The schemas are read off the event classes, so the document can't promise what is not published.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from mycelium.state import ROOT
from nameko_mesh.events import Envelope, Event
from services.orders import events as orders
from services.products import events as products
from services.users import events as users

DOCUMENT = ROOT / "docs" / "asyncapi.json"
PUBLISHERS = {"products": products, "users": users, "orders": orders}
_PRIMITIVES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def events_of(module: types.ModuleType) -> list[type[Event]]:
    """The events that a service publishes, in the order of their definition."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ]


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of all events."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for service, module in PUBLISHERS.items():
        for kind in events_of(module):
            name = f"{service}.{kind.TYPE}"
            channels[name] = {
                "address": kind.TYPE,
                "description": f"Topic exchange `{service}.events`, routing key `{kind.TYPE}`.",
                "messages": {kind.TYPE: _message(kind)},
                "bindings": {"amqp": _binding(service)},
            }
            operations[f"publish.{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
    info = {
        "title": "Mycelium's events",
        "version": "1",
        "description": "Delivered at least once: drop repeats by event_id.",
    }
    return {"asyncapi": "3.0.0", "info": info, "channels": channels, "operations": operations}


def _message(kind: type[Event]) -> dict[str, Any]:
    envelope = {name: _schema(type_) for name, type_ in get_type_hints(Envelope).items()}
    envelope["type"] = {"const": kind.TYPE}
    envelope["version"] = {"const": kind.VERSION}
    envelope["event_id"] = {"type": "string", "format": "uuid"}
    envelope["occurred_at"] = {"type": "string", "format": "date-time"}
    hints = get_type_hints(kind)
    envelope["data"] = _object({field.name: _schema(hints[field.name]) for field in fields(kind)})
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    summary = "" if summary.startswith(f"{kind.__name__}(") else summary
    return {
        "name": kind.TYPE,
        "summary": summary,
        "contentType": "application/json",
        "payload": _object(envelope),
    }


def _binding(service: str) -> dict[str, Any]:
    exchange = {"name": f"{service}.events", "type": "topic", "durable": True, "autoDelete": False}
    return {"is": "routingKey", "exchange": exchange}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(hint: Any) -> dict[str, Any]:
    if hint in _PRIMITIVES:
        return {"type": _PRIMITIVES[hint]}
    if is_typeddict(hint):
        return _object({name: _schema(part) for name, part in get_type_hints(hint).items()})
    if get_origin(hint) is list:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if get_origin(hint) in (Union, types.UnionType):
        return {
            "oneOf": [{"type": "null"} if part is type(None) else _schema(part) for part in get_args(hint)]
        }
    return {"type": "object"}


def rendered() -> str:
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(rendered())
    elif DOCUMENT.read_text() != rendered():
        sys.exit("docs/asyncapi.json is not what the events give: run `make protos`")
