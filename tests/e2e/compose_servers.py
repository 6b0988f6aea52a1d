"""Private servers in place of the servers of docker-compose.yml."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mycelium.servers import Processes, consul, postgresql, rabbitmq, running
from mycelium.servers.consul import Consul
from mycelium.servers.postgresql import PostgreSQL
from mycelium.servers.rabbitmq import RabbitMQ
from mycelium.state import ROOT

CACHE = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache"))
START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Servers:
    """The servers that the containers connect to, with their names in docker-compose.yml."""

    broker: RabbitMQ
    agent: Consul
    database: PostgreSQL
    mail_port: int

    def addresses(self) -> dict[str, str]:
        """Return the real addresses, by the addresses that docker-compose.yml names."""
        return {
            "rabbitmq:5672": f"127.0.0.1:{self.broker.ports.amqp}",
            "consul:8500": f"127.0.0.1:{self.agent.ports.http}",
            "postgres:5432": f"127.0.0.1:{self.database.port}",
            "mailpit:1025": f"127.0.0.1:{self.mail_port}",
        }


@contextlib.contextmanager
def servers_running(folder: Path, mail_port: int) -> Iterator[tuple[Servers, Processes]]:
    """Run the private servers. Skips the test where Consul cannot be fetched."""
    installed = consul.find_or_fetch(CACHE, print)
    if installed is None:
        pytest.skip("Consul is not available on this machine")
    broker = rabbitmq.find_or_fetch(CACHE, print).node(folder / "rabbitmq", management=False)
    agent = installed.agent(folder / "consul")
    database = postgresql.find_or_fetch(CACHE, print).server(folder / "postgresql", durable=False)
    servers = Servers(broker, agent, database, mail_port)
    programs = (*database.programs, *agent.programs, *broker.programs)
    with running(*programs, log_dir=folder / "logs") as processes:
        for server, name in ((database, "PostgreSQL"), (agent, "Consul"), (broker, "RabbitMQ")):
            processes.wait_until(server.is_ready, START_TIMEOUT_SECONDS, name)
        yield servers, processes
