"""`mycelium dlq`: inspect, replay and drop the messages that no handler could process."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mycelium.cli.options import AmqpUri, AsJson, setting_or_exit
from mycelium.cli.output import exit_on_broker_error, out, show

if TYPE_CHECKING:
    from mycelium.diagnostics.dead_letters import DeadLetterQueues

dlq = typer.Typer(
    no_args_is_help=True, help="Inspect, replay or drop messages that handlers could not process."
)

QueueName = Annotated[str, typer.Argument(help="A queue's name, as `mycelium dlq list` prints it.")]


@dlq.command("list")
def dlq_list(amqp_uri: AmqpUri = "", as_json: AsJson = False) -> None:
    """Count each queue's waiting, retrying and parked messages."""
    show([asdict(counts) for counts in exit_on_broker_error(lambda: _queues(amqp_uri).counts())], as_json)


@dlq.command("show")
def dlq_show(queue: QueueName, limit: int = 10, amqp_uri: AmqpUri = "", as_json: AsJson = False) -> None:
    """Print a queue's oldest parked messages and their errors. The messages stay parked."""
    letters = exit_on_broker_error(lambda: _queues(amqp_uri).show(queue, limit))
    if as_json:
        print(json.dumps([asdict(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        title = f"[bold]{letter.parked_at}[/bold]  {letter.handler}  [red]{letter.reason}[/red]"
        out.print(title, soft_wrap=True)
        out.print_json(json.dumps(letter.message))


@dlq.command("replay")
def dlq_replay(queue: QueueName, amqp_uri: AmqpUri = "") -> None:
    """Send a queue's parked messages to their handlers again."""
    print(f"{exit_on_broker_error(lambda: _queues(amqp_uri).replay(queue))} replayed")


@dlq.command("drop")
def dlq_drop(
    queue: QueueName, amqp_uri: AmqpUri = "", yes: Annotated[bool, typer.Option("--yes")] = False
) -> None:
    """Delete a queue's parked messages. Asks first, unless --yes is given."""
    if not yes:
        typer.confirm(f"Drop every message parked from {queue}? This cannot be undone.", abort=True)
    print(f"{exit_on_broker_error(lambda: _queues(amqp_uri).drop(queue))} dropped")


def _queues(amqp_uri: str) -> DeadLetterQueues:
    from mycelium.diagnostics.dead_letters import DeadLetterQueues

    return DeadLetterQueues(setting_or_exit(amqp_uri, "AMQP_URI", "the broker"))
