"""`mycelium dlq`, `outbox` and `sagas`: what is held up somewhere, shown and mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mycelium.cli.output import AsJson, err, out, show
from mycelium.state import State

dlq = typer.Typer(
    no_args_is_help=True, help="Calls and events that could not be handled: retried, or parked."
)

AmqpUri = Annotated[
    str, typer.Option(envvar="AMQP_URI", help="The broker; by default that of the running mesh.")
]
DatabaseUrl = Annotated[
    str,
    typer.Option(envvar="DATABASE_URL", help="With {service} in it; by default that of the running mesh."),
]
QueueName = Annotated[str, typer.Argument(help="As `mycelium dlq list` names it.")]


@dlq.command("list")
def dlq_list(amqp_uri: AmqpUri = "", as_json: AsJson = False) -> None:
    """What waits in each queue of the services, is to be retried, and is parked."""
    show([asdict(counts) for counts in _asked(lambda: _parked(amqp_uri).counts())], as_json)


@dlq.command("show")
def dlq_show(queue: QueueName, limit: int = 10, amqp_uri: AmqpUri = "", as_json: AsJson = False) -> None:
    """Look at the oldest parked messages of a queue, and why each is there; they stay."""
    parked = _asked(lambda: _parked(amqp_uri).show(queue, limit))
    if as_json:
        print(json.dumps([asdict(one) for one in parked], indent=2))
        return
    for one in parked:
        out.print(f"[bold]{one.parked_at}[/bold]  {one.handler}  [red]{one.reason}[/red]", soft_wrap=True)
        out.print_json(json.dumps(one.message))


@dlq.command("replay")
def dlq_replay(queue: QueueName, amqp_uri: AmqpUri = "") -> None:
    """Give what is parked of a queue to its handler again."""
    print(f"{_asked(lambda: _parked(amqp_uri).replay(queue))} replayed")


@dlq.command("drop")
def dlq_drop(
    queue: QueueName, amqp_uri: AmqpUri = "", yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Forget what is parked of a queue, for good."""
    if not yes:
        typer.confirm(f"Drop every message parked from {queue}? They can't be brought back.", abort=True)
    print(f"{_asked(lambda: _parked(amqp_uri).drop(queue))} dropped")


def _parked(amqp_uri: str) -> Any:
    from mycelium.diagnostics.dead_letters import ParkedMessages

    uri = amqp_uri or State().environment().get("AMQP_URI")
    if not uri:
        err.print("no mesh is running here: set AMQP_URI to the broker")
        raise typer.Exit(1)
    return ParkedMessages(uri)


def _asked(act: Callable[[], Any]) -> Any:
    """What came of it; who does not answer is told in one line."""
    from amqp.exceptions import AMQPError
    from kombu.exceptions import OperationalError
    from sqlalchemy.exc import SQLAlchemyError

    from mycelium.diagnostics.dead_letters import NoSuchQueue

    try:
        return act()
    except NoSuchQueue as error:
        reason = str(error)
    except (OSError, AMQPError, OperationalError) as error:
        reason = f"the broker does not answer: {error}"
    except SQLAlchemyError as error:
        reason = f"the database does not answer: {str(error).splitlines()[0]}"
    err.print(f"[red]{reason}[/red]", soft_wrap=True)
    raise typer.Exit(1)
