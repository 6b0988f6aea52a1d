"""One item's answer in a batch: a value or the reason why there is none, never spoiling the others.

On the wire an outcome is `{"ok": value}` or `{"error": {"code", "message", "field"?}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from nameko_mesh.errors import Refused, describe, from_public

MOST_ITEMS = 1000

T = TypeVar("T")
U = TypeVar("U")


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    value: T | None = None
    error: Exception | None = None

    @staticmethod
    def of(make: Callable[[], U]) -> Outcome[U]:
        """What `make` returns, or the refusal it raised (an exception with a slug; others pass)."""
        try:
            return Outcome(make())
        except Exception as error:
            if describe(error) is None:
                raise
            return Outcome(error=error)

    @staticmethod
    def of_each(make: Callable[[T], U], items: list[T]) -> list[Outcome[U]]:
        """`of` for every item of a batch. Raises Refused for what is no batch, or too large a one."""
        if not isinstance(items, list) or len(items) > MOST_ITEMS:
            raise Refused("validation-failed", f"expected a list of at most {MOST_ITEMS} items")
        outcomes: list[Outcome[U]] = []
        for item in items:  # `of`, without a function for each item
            try:
                outcomes.append(Outcome(make(item)))
            except Exception as error:
                if describe(error) is None:
                    raise
                outcomes.append(Outcome(error=error))
        return outcomes

    def unwrap(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def map(self, encode: Callable[[T], U]) -> Outcome[U]:
        """The outcome with its value encoded; an error stays as it is."""
        return Outcome(encode(self.value)) if self.error is None else Outcome(error=self.error)  # type: ignore[arg-type]

    def then(self, make: Callable[[T], U]) -> Outcome[U]:
        """The outcome of going on with the value; an error stays as it is."""
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
