"""The broker of the mesh under test, driven by rabbitmqctl and over AMQP."""

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
_PRIVATE_NAMES = re.compile(r"^(rpc\.reply-|self-call-|chaos-|evt-orders-gateway-|amq\.gen|.*-[0-9a-f]{32}$)")


@dataclass(frozen=True, slots=True)
class QueueState:
    name: str
    messages: int
    consumers: int

    @property
    def is_shared(self) -> bool:
        """False for a queue of a single process, which comes and goes with the process."""
        return not _PRIVATE_NAMES.match(self.name)

    @property
    def is_consumed(self) -> bool:
        """True if the queue needs a consumer. Queues of parked or waiting messages have none."""
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
        """Run the rabbitmqctl beside the server that the supervisor runs, in the same environment."""
        script = (self._mesh.state.programs / "rabbitmq").read_text()
        server = re.search(r"(\S*/rabbitmq)-server", script)
        assert server, "the script starts no rabbitmq-server"
        done = subprocess.run(
            [f"{server[1]}ctl", *arguments],
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
        """Publish a message exactly as given, with no property added."""
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
        """Declare a queue for every event of the exchange, and delete it at the end of the block."""
        with self.channel() as channel:
            source = Exchange(exchange, type="topic", durable=True) if exchange else None
            Queue(name, source, routing_key="#", channel=channel, durable=True).declare()
        try:
            yield name
        finally:
            with self.channel() as channel:
                Queue(name, channel=channel).delete()

    def receive(self, name: str) -> list[Any]:
        """Take all messages of a queue, with payload, headers and properties."""
        with self.channel() as channel:
            queue = Queue(name, channel=channel, no_declare=True)
            return list(iter(lambda: queue.get(no_ack=True), None))
