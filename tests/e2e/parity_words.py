"""The vocabulary of parity_table: operations with their input, and their outcomes."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

ALICE = "U001"
MAX_QUANTITY = 1_000_000


class Refused(NamedTuple):
    code: str
    field: str
    message: str


class Step(NamedTuple):
    operation: str
    input: dict[str, Any]
    outcome: Any
    """A Refused, or a value of which only the fields named here are compared."""


def get_product(product_id: Any, outcome: Any) -> Step:
    return Step("get_product", {"product_id": product_id}, outcome)


def get_products(product_ids: Any, outcome: Any) -> Step:
    return Step("get_products", {"product_ids": product_ids}, outcome)


def list_products(outcome: Any, **arguments: Any) -> Step:
    return Step("list_products", arguments, outcome)


def create_product(outcome: Any, **fields: Any) -> Step:
    lamp = {"product_id": "lamp~", "name": "Lamp", "price_minor": 500, "stock": 1}
    return Step("create_product", {**lamp, **fields}, outcome)


def update_product(product_id: str, outcome: Any, **changes: Any) -> Step:
    return Step("update_product", {"product_id": product_id, **changes}, outcome)


def reserve(items: Any, outcome: Any, order_id: str = "order~") -> Step:
    return Step("reserve_stock", {"order_id": order_id, "items": items}, outcome)


def release(outcome: Any, order_id: str = "order~") -> Step:
    return Step("release_stock", {"order_id": order_id}, outcome)


def place(items: Any, outcome: Any, user_id: str = ALICE, **key: str) -> Step:
    return Step("place_order", {"user_id": user_id, "items": items, **key}, outcome)


def get_order(order_id: str, outcome: Any) -> Step:
    return Step("get_order", {"order_id": order_id}, outcome)


def get_user(user_id: str, outcome: Any) -> Step:
    return Step("get_user", {"user_id": user_id}, outcome)


def line(product_id: str, quantity: Any) -> dict[str, Any]:
    return {"product_id": product_id, "quantity": quantity}


def reserved(product: dict[str, Any], quantity: int) -> dict[str, Any]:
    price = {"name": product["name"], "unit_price_minor": product["price_minor"]}
    return {"product_id": product["id"], "quantity": quantity, **price}


def ordered(product: dict[str, Any], quantity: int) -> dict[str, Any]:
    total = quantity * product["price_minor"]
    return {"product": {"id": product["id"]}, "quantity": quantity, "line_total_minor": total}


def cursor(*key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def unknown(kind: str, name: str) -> Refused:
    return Refused("not-found", f"{kind}_id", f"there is no {kind} {name}")


def invalid(field: str, expected: str) -> Refused:
    return Refused("validation-failed", field, f"expected {expected}")


def no_id(field: str) -> Refused:
    return invalid(field, "1 to 64 letters, digits or any of . _ : -")


def no_number(field: str, least: int = 1, most: int = MAX_QUANTITY) -> Refused:
    return invalid(field, f"a whole number from {least} to {most}")
