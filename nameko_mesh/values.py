"""Values: small things that are equal when all their parts are, and that nobody changes.

    @value                      in place of dataclasses.dataclass(frozen=True)
    class Line:
        product_id: str
        quantity: int

For the type checker they are frozen. At run time they are plain dataclasses: a frozen one takes twice as
long to make, and a service makes a dozen for each order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def value(cls: type[T], /) -> type[T]: ...


@overload
def value(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True)
def value(cls: type[Any] | None = None, /, *, kw_only: bool = False) -> Any:
    """Decorates a class, with dataclasses' own meaning of `kw_only`."""

    def made(cls: type[Any]) -> type[Any]:
        return dataclass(cls, kw_only=kw_only, unsafe_hash=True)

    return made if cls is None else made(cls)
