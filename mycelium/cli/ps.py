"""`mycelium ps`: the processes of the running mesh."""

from __future__ import annotations

from typing import Any

import typer

from mycelium.cli.options import AsJson
from mycelium.cli.output import err, show
from mycelium.runner.supervisor import processes, restarts
from mycelium.state import State


def ps(as_json: AsJson = False) -> None:
    """List the processes of the running mesh."""
    rows = _rows(State())
    if rows is None:
        err.print("no mesh is running here: make run starts one")
        raise typer.Exit(1)
    show(rows, as_json, missing="-")


def _rows(state: State) -> list[dict[str, Any]] | None:
    """Return a row for each process, or None when no supervisor answers."""
    running = processes(state)
    if running is None:
        return None
    members = {member.name: member for member in state.members()}
    restart_counts = restarts(state)
    rows = []
    for process in running:
        name = process["name"]
        member = members.get(name)
        rows.append(
            {
                "name": name,
                "service": member.service if member else name,
                "pid": process["pid"] or None,
                "address": member.address if member else None,
                "state": process["statename"].lower(),
                "restarts": max(0, restart_counts[name]),
            }
        )
    return rows
