"""How commands print."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


err = Console(stderr=True, highlight=False)


AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def show(rows: list[dict[str, Any]], as_json: bool, nothing: str = "nothing waits") -> None:
    """As JSON, or as a table in which what is not known stays empty."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        out.print(nothing)
        return
    table = Table(*(Column(name.replace("_", " "), overflow="fold") for name in rows[0]), box=None)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    out.print(table)
