"""Generate docs/asyncapi.json from the event classes, or check it: `python -m mycelium.asyncapi [--check]`.

The schemas come from the classes that the services publish, so the document cannot differ from the code.
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


def event_classes(module: types.ModuleType) -> list[type[Event]]:
    """Return the event classes of a module in the order of their definition."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    ]


def document() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of all events."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for service, module in PUBLISHERS.items():
        for event in event_classes(module):
            name = f"{service}.{event.TYPE}"
            channels[name] = {
                "address": event.TYPE,
                "description": f"Topic exchange `{service}.events`, routing key `{event.TYPE}`.",
                "messages": {event.TYPE: _message(event)},
                "bindings": {"amqp": _binding(service)},
            }
            operations[f"publish.{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
    info = {
        "title": "Mycelium's events",
        "version": "1",
        "description": "Delivered at least once: drop repeats by event_id.",
    }
    return {"asyncapi": "3.0.0", "info": info, "channels": channels, "operations": operations}


def _message(event: type[Event]) -> dict[str, Any]:
    envelope = {name: _schema(type_) for name, type_ in get_type_hints(Envelope).items()}
    envelope["type"] = {"const": event.TYPE}
    envelope["version"] = {"const": event.VERSION}
    envelope["event_id"] = {"type": "string", "format": "uuid"}
    envelope["occurred_at"] = {"type": "string", "format": "date-time"}
    hints = get_type_hints(event)
    envelope["data"] = _object({field.name: _schema(hints[field.name]) for field in fields(event)})
    summary = (event.__doc__ or "").strip().splitlines()[0]
    summary = "" if summary.startswith(f"{event.__name__}(") else summary
    return {
        "name": event.TYPE,
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
        sys.exit("docs/asyncapi.json does not match the event classes: run `make protos`")
