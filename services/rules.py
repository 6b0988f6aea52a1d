"""Rules that the domains of several services share: refusals, ids and the lines of an order.

A domain imports the standard library, this module and uuid_utils, a faster `uuid`. This module imports the
standard library alone.
"""

from __future__ import annotations

import re
from typing import Any

MAX_ID_LENGTH = 64
MAX_NAME_LENGTH = 200
MAX_LINES = 100
MAX_QUANTITY = 1_000_000

_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_ID_LENGTH}}}")


class Refusal(Exception):
    """A rule says no. `slug` is public and stable; `field` names the input that the rule is about."""

    slug = "conflict"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Invalid(Refusal):
    """The input has the wrong type, format or range."""

    slug = "validation-failed"


def checked_id(value: Any, field: str) -> str:
    """Return the value if it is a valid id. Raises Invalid naming `field`."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Invalid(f"{field}: expected 1 to {MAX_ID_LENGTH} letters, digits or any of . _ : -", field)
    return value


def checked_int(value: Any, field: str, minimum: int, maximum: int) -> int:
    """Return the value if it is a whole number in the range. Raises Invalid naming `field`."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise Invalid(f"{field}: expected a whole number from {minimum} to {maximum}", field)
    return value


def checked_name(value: Any) -> str:
    """Return the name of a user or a product, without spaces around it. Raises Invalid."""
    name = value.strip() if isinstance(value, str) and value.isprintable() else ""
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise Invalid(f"name: expected 1 to {MAX_NAME_LENGTH} printable characters", "name")
    return name


def checked_lines(items: Any) -> list[tuple[str, int]]:
    """Return the product ids and quantities of an order's lines, in id order.

    Lines of the same product are added up. Raises Invalid naming the first line that is wrong.
    """
    if not isinstance(items, list | tuple) or not 1 <= len(items) <= MAX_LINES:
        raise Invalid(f"items: expected a list of 1 to {MAX_LINES} lines", "items")
    quantities: dict[str, int] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise Invalid(f"items[{index}]: expected an object", f"items[{index}]")
        product_id = checked_id(item.get("product_id"), f"items[{index}].product_id")
        field = f"items[{index}].quantity"
        quantity = checked_int(item.get("quantity"), field, 1, MAX_QUANTITY)
        quantities[product_id] = quantities.get(product_id, 0) + quantity
        if quantities[product_id] > MAX_QUANTITY:
            raise Invalid(f"{field}: expected at most {MAX_QUANTITY} of {product_id} in all", field)
    return sorted(quantities.items())
