"""The rows R1 to R15. A row is a coroutine that plays on a stage. `row` registers it with its texts."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.stage import Stage

Play = Callable[[Stage], Awaitable[None]]

_ROWS: dict[str, Row] = {}
_MODULES = ("dying", "ordering", "servers", "hostile", "deliveries", "sagas", "living")


@dataclass(frozen=True, slots=True)
class Row:
    """`control` names the mutant that must make the row fail, `sabotaged` the services that carry it."""

    name: str
    load: str
    passes: str
    control: str
    sabotaged: tuple[str, ...]
    play: Play

    @property
    def number(self) -> int:
        return int(self.name.removeprefix("R"))


def row(name: str, *, load: str, passes: str, control: str, sabotaged: str) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        _ROWS[name] = Row(name, load, passes, control, tuple(sabotaged.split()), play)
        return play

    return register


def every_row() -> list[Row]:
    for module in _MODULES:
        importlib.import_module(f"tests.chaos.rows.{module}")
    return sorted(_ROWS.values(), key=lambda row: row.number)
