"""Malformed messages: a corpus of messages that have killed services before, and random ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

RPC = "nameko-rpc"
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
LETHAL_LIVES = 40
"""More than the deliveries of an event: see MAX_DELIVERIES in nameko_mesh.events.handler."""
CALL = json.dumps({"args": [], "kwargs": {"product_id": "P001"}})
EVENT_QUEUES = (
    "evt-orders-order_confirmed--notifications.on_order_confirmed",
    "evt-users-user_updated--orders.on_user_updated",
)


@dataclass(frozen=True, slots=True)
class Poison:
    routing_key: str
    body: bytes | str
    exchange: str = RPC
    properties: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    is_parked: bool = False

    @property
    def is_answered(self) -> bool:
        return "reply_to" in self.properties


HEADERS: tuple[dict[str, Any], ...] = (
    {"nameko.call_id_stack": 5},
    {"call_id_stack": "text"},
    {"nameko.call_id_stack": [{"a": 1}]},
    {"nameko.deadline": "soon"},
    {"nameko.deadline": {"a": 1}},
    {"nameko.language": {"a": [1]}},
    {"x-attempts": "many", "x-lives-lost": -1},
)
UNREADABLE: tuple[tuple[bytes, dict[str, str]], ...] = (
    (b"{not json", JSON),
    (b"\x80\x04N.", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    (b"{}", {"content_type": "application/json", "content_encoding": "utf-9"}),
    (b"[" * 50_000, JSON),
    (b"\xff\xfe\x00", {"content_type": "text/unheard-of"}),
)
INVALID_CALLS: tuple[tuple[str, Any], ...] = (
    ("products.get_product", {"args": []}),
    ("products.get_product", ["args", "kwargs"]),
    ("products.get_product", {"args": 5, "kwargs": {}}),
    ("products.get_product", {"args": [], "kwargs": {"nonsense": 1}}),
    ("products.no_such_method", {"args": [], "kwargs": {}}),
    ("orders.place_orders", {"args": [], "kwargs": {"orders": {"a": {"__type__": "date"}}}}),
    ("orders.get_order", {"args": [], "kwargs": {"order_id": ["x"]}}),
    ("users.get_user", {"args": [], "kwargs": {"user_id": None}}),
)


def corpus(answers: str) -> list[Poison]:
    """Return each call with the reply queue `answers` and without a reply queue, and each event."""
    calls = [poison for number, call in enumerate(_calls()) for poison in _both(call, answers, number)]
    return [*calls, *_events()]


def _calls() -> Iterator[tuple[str, bytes | str, dict[str, str], Mapping[str, Any], bool]]:
    for headers in HEADERS:
        yield "products.get_product", CALL, JSON, headers, False
        yield "orders.list_orders", json.dumps({"args": ["U001"], "kwargs": {}}), JSON, headers, False
    for body, properties in UNREADABLE:
        yield "products.get_product", body, properties, {}, True
        yield "orders.place_orders", body, properties, {}, True
    for method, body in INVALID_CALLS:
        yield method, json.dumps(body), JSON, {}, False
    yield "products.get_product", CALL, {}, {}, True  # without a content type, the body stays bytes


def _both(call: Any, answers: str, number: int) -> Iterator[Poison]:
    method, body, properties, headers, is_parked = call
    with_reply = {**properties, "reply_to": answers, "correlation_id": f"poison-{number}-{method}"}
    yield Poison(method, body, RPC, with_reply, headers)
    yield Poison(method, body, RPC, dict(properties), headers, is_parked)


def _events() -> Iterator[Poison]:
    """Yield messages for handlers: unreadable messages, and events on which the handler always fails."""
    for queue in EVENT_QUEUES:
        for body, properties in UNREADABLE:
            yield Poison(queue, body, "", dict(properties), is_parked=True)
        yield Poison(queue, json.dumps([1, 2]), "", dict(JSON), is_parked=True)
        yield Poison(queue, json.dumps({"event_id": "none"}), "", dict(JSON), is_parked=True)
        for headers in HEADERS:
            yield Poison(queue, json.dumps({"event_id": "none"}), "", dict(JSON), headers, is_parked=True)


METHODS = ("get_product", "reserve_stocks", "place_orders", "get_user", "cancel_order", "release_stocks", "x")
TYPES = ("application/json", "application/x-yaml", "application/data", "text/plain", "", "\u00e9")


def fuzz(rng: Random, count: int) -> list[Poison]:
    """Return messages with random bodies, types, headers and methods. None is a valid request."""
    return [_random(rng) for _ in range(count)]


def _random(rng: Random) -> Poison:
    properties: dict[str, Any] = {}
    if rng.random() < 0.8:
        properties["content_type"] = rng.choice(TYPES)
    if rng.random() < 0.8:
        properties["content_encoding"] = rng.choice(("utf-8", "binary", "latin-1", "none", "utf-9"))
    if rng.random() < 0.5:
        properties |= {"reply_to": f"chaos-nobody-{rng.random()}", "correlation_id": str(rng.random())}
    headers = rng.choice((*HEADERS, {}, {}, {str(rng.random()): rng.random()}))
    body = json.dumps(_value(rng, 3)).encode() if rng.random() < 0.7 else rng.randbytes(rng.randint(0, 200))
    if rng.random() < 0.25:
        return Poison(rng.choice(EVENT_QUEUES), body, "", properties, headers)
    service = rng.choice(("products", "orders", "users"))
    return Poison(f"{service}.{rng.choice(METHODS)}", body, RPC, properties, headers)


def _value(rng: Random, depth: int) -> Any:
    kinds = [None, True, rng.randint(-(2**70), 2**70), rng.random(), "\u0000\ud7ff" * 3, "args"]
    if depth and rng.random() < 0.7:
        keys = ("args", "kwargs", "orders", "product_id", "items", "event_id", "__type__", "data")
        if rng.random() < 0.5:
            return {rng.choice(keys): _value(rng, depth - 1) for _ in range(rng.randint(0, 4))}
        return [_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return rng.choice(kinds)
