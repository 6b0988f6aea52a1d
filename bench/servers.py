"""Private servers under the baselines: RabbitMQ and PostgreSQL, as the mesh has them, of their own."""

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

READY_SECONDS = 90
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache")).resolve()


@dataclass(frozen=True, slots=True)
class BackendServers:
    """What runs, and where its logs are."""

    broker: RabbitMQ
    database: PostgreSQL
    pids: Mapping[str, int]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_URI": self.broker.amqp_uri, "DATABASE_URL": self.database.url_for("{service}")}


@contextmanager
def backend_servers(folder: Path, *, management: bool = False) -> Iterator[BackendServers]:
    """Durable, like what the mesh runs on."""
    say = _silent
    broker = rabbitmq.find_or_fetch(CACHE, say).node(folder / "rabbitmq", management=management)
    database = postgresql.find_or_fetch(CACHE, say).server(folder / "postgresql")
    with running(*broker.programs, *database.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(broker.is_ready, READY_SECONDS, "RabbitMQ")
        processes.wait_until(database.is_ready, READY_SECONDS, "PostgreSQL")
        yield BackendServers(broker, database, pids(processes), folder)


def python_program(name: str, *arguments: str, **environment: str) -> Program:
    """A Python program of this environment, started in the checkout: `python -m ...`."""
    return Program(
        name=name, command=(sys.executable, "-m", *arguments), directory=ROOT, environment=environment
    )


def stock_service(name: str, module: str, **environment: str) -> Program:
    """`nameko run` of one module, with Nameko's own defaults."""
    return Program(
        name=name,
        command=(str(BIN / "nameko"), "run", "--config", "bench/baselines/stock/config.yml", module),
        directory=ROOT,
        environment={"PYTHONWARNINGS": "ignore", **environment},
    )


def mesh_service(name: str, module: str, **environment: str) -> Program:
    """`nameko run` of one module, with the settings of the mesh."""
    return Program(
        name=name,
        command=(str(BIN / "nameko"), "run", "--config", "config.yml", module),
        directory=ROOT,
        environment={"PYTHONWARNINGS": "ignore", **environment},
    )


def pids(processes: Processes) -> dict[str, int]:
    return {name: process.pid for name, process in processes.items()}


def _silent(text: str) -> None:
    """Of what is fetched nobody need hear."""
