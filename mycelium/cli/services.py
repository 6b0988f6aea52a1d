"""`mycelium services`: who is there, and how it goes with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mycelium.cli.output import AsJson, err, show
from mycelium.state import State

Consul = Annotated[
    str, typer.Option(envvar="CONSUL_HTTP_ADDR", help="The agent; by default that of the running mesh.")
]
Token = Annotated[str, typer.Option(envvar="CONSUL_HTTP_TOKEN", help="For an agent that wants one.")]
Metrics = Annotated[
    str,
    typer.Option(
        envvar="METRICS_URL",
        help="Of the gateways, with commas between; by default those of the running mesh.",
    ),
]


def services(consul: Consul = "", token: Token = "", metrics: Metrics = "", as_json: AsJson = False) -> None:
    """Every instance: what Consul knows of it, and what the gateway sees when it calls."""
    import httpx

    from mycelium.diagnostics.instances import look

    known = State().environment()
    consul = consul or known.get("CONSUL_HTTP_ADDR", "")
    metrics = metrics or known.get("METRICS_URL", "")
    if not consul and not metrics:
        err.print("no mesh is running here: set CONSUL_HTTP_ADDR, METRICS_URL or both")
        raise typer.Exit(1)
    try:
        seen = look(consul or None, token or None, metrics or None)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        err.print(f"[red]no answer that makes sense: {error!r}[/red]", soft_wrap=True)
        raise typer.Exit(1) from None
    show([asdict(one) for one in seen], as_json, nothing="nobody is there")
