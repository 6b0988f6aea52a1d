"""`mycelium services`: every instance with its health, version and call figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mycelium.cli.options import AsJson
from mycelium.cli.output import err, fail, show
from mycelium.state import State

Consul = Annotated[
    str, typer.Option(envvar="CONSUL_HTTP_ADDR", help="The Consul agent. Default: the running mesh's.")
]
Token = Annotated[
    str, typer.Option(envvar="CONSUL_HTTP_TOKEN", help="The agent's ACL token, if it needs one.")
]
Metrics = Annotated[
    str,
    typer.Option(
        envvar="METRICS_URL",
        help="The gateways' metrics URLs, separated by commas. Default: the running mesh's.",
    ),
]


def services(consul: Consul = "", token: Token = "", metrics: Metrics = "", as_json: AsJson = False) -> None:
    """List every instance as Consul registers it and as the gateways' calls see it."""
    import httpx

    from mycelium.diagnostics.instances import list_instances

    settings = State().environment()
    consul = consul or settings.get("CONSUL_HTTP_ADDR", "")
    metrics = metrics or settings.get("METRICS_URL", "")
    if not consul and not metrics:
        err.print("no mesh is running here: set CONSUL_HTTP_ADDR, METRICS_URL or both")
        raise typer.Exit(1)
    try:
        instances = list_instances(consul or None, token or None, metrics or None)
    except httpx.HTTPError as error:
        fail(f"Consul or the gateways' metrics do not answer: {error!r}")
    except (ValueError, KeyError) as error:
        fail(f"Consul or the gateways' metrics answer in an unknown format: {error!r}")
    show([asdict(instance) for instance in instances], as_json, if_empty="no instance is registered")
