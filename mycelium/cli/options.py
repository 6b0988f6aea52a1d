"""Options that several commands share. The running mesh supplies the defaults."""

from __future__ import annotations

from typing import Annotated

import typer

from mycelium.cli.output import err
from mycelium.state import State

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AmqpUri = Annotated[str, typer.Option(envvar="AMQP_URI", help="The broker. Default: the running mesh's.")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        envvar="DATABASE_URL", help="The databases, with {service} in the URL. Default: the running mesh's."
    ),
]


def setting_or_exit(value: str, variable: str, names: str) -> str:
    """Return `value`, else the running mesh's setting. Exit with 1 when neither is there.

    `names` completes the message: what the variable has to name.
    """
    setting = value or State().environment().get(variable, "")
    if not setting:
        err.print(f"no mesh is running here: set {variable} to {names}")
        raise typer.Exit(1)
    return setting
