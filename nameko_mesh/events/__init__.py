"""Events that a service publishes about its committed changes, and the handlers of other services.

    from nameko_mesh.events import Event                           the base of published events
    from nameko_mesh.events import event_handler, batch_handler    entrypoints of a Nameko service

`schema` holds the events and their envelope, `exchanges` the AMQP topology. `bundle` takes messages of
several events apart. `handler` and `batches` are the entrypoints; `handler` decides when a failed event is
retried or parked.

Names are resolved at their first use, because asyncio programs import `schema` without eventlet and Nameko.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko_mesh.events.batches import batch_handler
    from nameko_mesh.events.handler import BROADCAST, event_handler
    from nameko_mesh.events.schema import Envelope, Event, timestamp

__all__ = ["BROADCAST", "Envelope", "Event", "batch_handler", "event_handler", "timestamp"]

_MODULES = {
    "BROADCAST": "handler",
    "Envelope": "schema",
    "Event": "schema",
    "batch_handler": "batches",
    "event_handler": "handler",
    "timestamp": "schema",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
