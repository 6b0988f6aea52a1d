"""Private RabbitMQ and PostgreSQL for the baselines, configured as the mesh configures its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers import Processes, Program, postgresql, rabbitmq, running
from mycelium.servers.postgresql import PostgreSQL
from mycelium.servers.rabbitmq import RabbitMQ
from mycelium.state import ROOT

READY_TIMEOUT_SECONDS = 90
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache")).resolve()


@dataclass(frozen=True, slots=True)
class BackendServers:
    """Running servers, their pids and the folder of their logs."""

    broker: RabbitMQ
    database: PostgreSQL
    pids: Mapping[str, int]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_URI": self.broker.amqp_uri, "DATABASE_URL": self.database.url_for("{service}")}


@contextmanager
def backend_servers(folder: Path, *, management: bool = False) -> Iterator[BackendServers]:
    """Run a broker and a database, as durable as the mesh's, until the end of the block."""
    broker = rabbitmq.find_or_fetch(CACHE, _ignore).node(folder / "rabbitmq", management=management)
    database = postgresql.find_or_fetch(CACHE, _ignore).server(folder / "postgresql")
    with running(*broker.programs, *database.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(broker.is_ready, READY_TIMEOUT_SECONDS, "RabbitMQ")
        processes.wait_until(database.is_ready, READY_TIMEOUT_SECONDS, "PostgreSQL")
        yield BackendServers(broker, database, pids(processes), folder)


def python_program(name: str, *arguments: str, **environment: str) -> Program:
    """Return `python -m ...` in the checkout, with this environment's interpreter."""
    return Program(
        name=name, command=(sys.executable, "-m", *arguments), directory=ROOT, environment=environment
    )


def stock_service(name: str, module: str, **environment: str) -> Program:
    """Return `nameko run` of a module with Nameko's defaults."""
    return _nameko_run(name, "bench/baselines/stock/config.yml", module, environment)


def mesh_service(name: str, module: str, **environment: str) -> Program:
    """Return `nameko run` of a module with the mesh's settings."""
    return _nameko_run(name, "config.yml", module, environment)


def _nameko_run(name: str, config: str, module: str, environment: Mapping[str, str]) -> Program:
    return Program(
        name=name,
        command=(str(BIN / "nameko"), "run", "--config", config, module),
        directory=ROOT,
        environment={"PYTHONWARNINGS": "ignore", **environment},
    )


def pids(processes: Processes) -> dict[str, int]:
    return {name: process.pid for name, process in processes.items()}


def _ignore(message: str) -> None:
    """Drop messages about fetched packages."""
