"""The outcome of one item of a batch: a value or an error. A failed item leaves the other items alone.

On the wire an outcome is `{"ok": value}` or `{"error": {"code", "message", "field"?}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from nameko_mesh.errors import Refused, describe, from_public

MAX_ITEMS = 1000

T = TypeVar("T")
U = TypeVar("U")


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """A value, or the error in its place."""

    value: T | None = None
    error: Exception | None = None

    @staticmethod
    def of(make: Callable[[], U]) -> Outcome[U]:
        """Call `make` and return its value, or its exception if that has a slug. Others are raised."""
        try:
            return Outcome(make())
        except Exception as error:
            if describe(error) is None:
                raise
            return Outcome(error=error)

    @staticmethod
    def of_each(make: Callable[[T], U], items: list[T]) -> list[Outcome[U]]:
        """Apply `of` to each item. Raises Refused when `items` is no list, or longer than MAX_ITEMS."""
        if not isinstance(items, list) or len(items) > MAX_ITEMS:
            raise Refused("validation-failed", f"expected a list of at most {MAX_ITEMS} items")
        outcomes: list[Outcome[U]] = []
        for item in items:  # inlines `of`, to save a closure for each item
            try:
                outcomes.append(Outcome(make(item)))
            except Exception as error:
                if describe(error) is None:
                    raise
                outcomes.append(Outcome(error=error))
        return outcomes

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def map(self, encode: Callable[[T], U]) -> Outcome[U]:
        """Return the outcome with an encoded value. An error is kept."""
        return Outcome(encode(self.value)) if self.error is None else Outcome(error=self.error)  # type: ignore[arg-type]

    def then(self, make: Callable[[T], U]) -> Outcome[U]:
        """Return the outcome of `make(value)`. An error is kept."""
        return Outcome(error=self.error) if self.error else Outcome.of(lambda: make(self.unwrap()))

    def to_wire(self) -> dict[str, Any]:
        if self.error is not None:
            return {"error": describe(self.error)}
        return {"ok": self.value}

    @staticmethod
    def from_wire(wire: Mapping[str, Any]) -> Outcome[Any]:
        if error := wire.get("error"):
            return Outcome(error=from_public(error))
        return Outcome(wire["ok"])
