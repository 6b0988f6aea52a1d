"""The broker of the mesh under test, by its own command line and over AMQP."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from tests.chaos.mesh import Mesh

COMMAND_SECONDS = 60
ALARM = ("set_vm_memory_high_watermark", "absolute", "1MB")
NO_ALARM = ("set_vm_memory_high_watermark", "absolute", "1GB")
DEAD, RETRY = ".dead", ".retry"
_OF_ONE_PROCESS = re.compile(
    r"^(rpc\.reply-|self-call-|chaos-|evt-orders-gateway-|amq\.gen|.*-[0-9a-f]{32}$)"
)


@dataclass(frozen=True, slots=True)
class QueueState:
    name: str
    messages: int
    consumers: int

    @property
    def is_shared(self) -> bool:
        """Not one of a single process, which comes and goes with it."""
        return not _OF_ONE_PROCESS.match(self.name)

    @property
    def is_consumed(self) -> bool:
        """Whether somebody has to listen to it: nobody does to parked and waiting messages."""
        return self.is_shared and not self.name.endswith((DEAD, RETRY))


class Broker:
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def queues(self) -> list[QueueState]:
        listed = self._command("-q", "list_queues", "--no-table-headers", "name", "messages", "consumers")
        rows = [line.split("\t") for line in listed.splitlines() if line.count("\t") == 2]
        return [QueueState(name, int(messages), int(consumers)) for name, messages, consumers in rows]

    def alarm(self, is_on: bool) -> None:
        self._command(*(ALARM if is_on else NO_ALARM))

    def _command(self, *arguments: str) -> str:
        """rabbitmqctl, beside the program that the supervisor runs, in the same environment."""
        script = (self._mesh.state.programs / "rabbitmq").read_text()
        found = re.search(r"(\S*/rabbitmq)-server", script)
        assert found, "the broker was not started from its own programs"
        done = subprocess.run(
            [f"{found[1]}ctl", *arguments],
            env={**os.environ, **self._mesh.program("rabbitmq")},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with Connection(self._mesh.settings["AMQP_URI"], connect_timeout=5) as connection:
            yield connection.channel()

    def purge(self, names: Iterable[str]) -> None:
        with self.channel() as channel:
            for name in names:
                Queue(name, channel=channel, no_declare=True).purge()

    def publish(
        self,
        channel: Any,
        body: bytes | str,
        routing_key: str,
        exchange: str = "",
        headers: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """A message exactly as given: what is no property is not sent."""
        message = channel.prepare_message(
            body.encode() if isinstance(body, str) else body,
            content_type=properties.pop("content_type", None),
            content_encoding=properties.pop("content_encoding", None),
            headers=dict(headers or {}),
            properties=properties,
        )
        channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    @contextmanager
    def queue(self, name: str, exchange: str | None = None) -> Iterator[str]:
        """A queue of ours, which gets every event of the exchange; gone at the end of the block."""
        with self.channel() as channel:
            source = Exchange(exchange, type="topic", durable=True) if exchange else None
            Queue(name, source, routing_key="#", channel=channel, durable=True).declare()
        try:
            yield name
        finally:
            with self.channel() as channel:
                Queue(name, channel=channel).delete()

    def receive(self, name: str) -> list[Any]:
        """All that is in a queue now: messages with payload, headers and properties."""
        with self.channel() as channel:
            queue = Queue(name, channel=channel, no_declare=True)
            return list(iter(lambda: queue.get(no_ack=True), None))
