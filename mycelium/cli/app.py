"""Start the mesh, inspect running instances, and clear stuck work."""

from __future__ import annotations

import typer

from mycelium.cli.backlog import outbox, sagas
from mycelium.cli.databases import migrate, new_migration, seed
from mycelium.cli.dlq import dlq
from mycelium.cli.ps import ps
from mycelium.cli.run import demo, run
from mycelium.cli.services import services

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
for command in (run, demo, ps, services, sagas, outbox, migrate, seed, new_migration):
    app.command()(command)
app.add_typer(dlq, name="dlq")
