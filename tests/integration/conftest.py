"""Private servers of the session, each started by the first test that needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.servers import consul, postgresql, rabbitmq, running
from mycelium.servers.consul import Consul
from mycelium.servers.postgresql import PostgreSQL
from mycelium.servers.rabbitmq import RabbitMQ
from mycelium.state import ROOT

START_SECONDS = 60
CACHE = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache"))


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    folder = tmp_path_factory.mktemp("rabbitmq")
    node = rabbitmq.find_or_fetch(CACHE, print).node(folder / "data")
    with running(*node.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(node.is_ready, START_SECONDS, "RabbitMQ")
        yield node


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    folder = tmp_path_factory.mktemp("postgresql")
    server = postgresql.find_or_fetch(CACHE, print).server(folder / "data", durable=False)
    with running(*server.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(server.is_ready, START_SECONDS, "PostgreSQL")
        yield server


@pytest.fixture(scope="session")
def consul_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    folder = tmp_path_factory.mktemp("consul")
    installed = consul.find_or_fetch(CACHE, print)
    if installed is None:
        pytest.skip("Consul is not available on this machine")
    agent = installed.agent(folder / "data")
    with running(*agent.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(agent.is_ready, START_SECONDS, "Consul")
        yield agent
