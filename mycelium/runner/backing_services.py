"""The broker, Consul and databases of a mesh: servers that the environment names, or private servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mycelium.runner.preflight import check_broker, check_databases, consul_answers
from mycelium.runner.process_plan import SERVICES
from mycelium.runner.supervisor import Supervisor, failed_start
from mycelium.servers import Program, ServerError, consul, postgresql, rabbitmq, wait_until
from mycelium.servers.consul import Consul
from mycelium.servers.postgresql import PostgreSQL
from mycelium.servers.rabbitmq import RabbitMQ
from mycelium.state import ROOT, Member, State

READY_TIMEOUT_SECONDS = 90.0

Say = Callable[[str], None]


class Server(Protocol):
    """A private server."""

    @property
    def programs(self) -> tuple[Program, ...]: ...

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class BackingServices:
    """Addresses of the servers that the services connect to, and the private servers by name."""

    amqp_uri: str
    consul_addr: str | None
    database_url: str
    private: Mapping[str, Server]
    members: Sequence[Member]

    @property
    def programs(self) -> list[Program]:
        return [program for server in self.private.values() for program in server.programs]

    def start(self, state: State, supervisor: Supervisor, passwords: dict[str, str], say: Say) -> None:
        """Start the private servers and prepare the databases.

        The databases are migrated and seeded while the broker starts, because the broker takes longest.
        """
        names = " and ".join(self.private)
        if self.private:
            say(f"starting {names}")
            for program in self.programs:
                supervisor.start_group(f"server-{program.name}")
        self._create_databases(state)
        say("migrating and seeding the databases")
        for command in ("migrate", "seed"):
            _run_command(command, {"DATABASE_URL": self.database_url, **passwords})
        self._wait(state, names, lambda: all(server.is_ready() for server in self.private.values()))

    def _create_databases(self, state: State) -> None:
        server = self.private.get("postgresql")
        if isinstance(server, PostgreSQL):
            self._wait(state, "postgresql", server.is_ready)
            for service in SERVICES:
                server.create_database(service)

    def _wait(self, state: State, what: str, is_ready: Callable[[], bool]) -> None:
        failure = partial(failed_start, state)
        wait_until(is_ready, READY_TIMEOUT_SECONDS, what, log=state.logs, failure=failure)


def _run_command(command: str, settings: Mapping[str, str]) -> None:
    """Run a `mycelium` command in a process of its own. Raises ServerError with its last error.

    The command's imports double the memory of this process, which stays to supervise the mesh.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mycelium", command],
            env={**os.environ, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=READY_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        limit = f"{READY_TIMEOUT_SECONDS:g} s"
        raise ServerError(f"{command}: the databases did not answer within {limit}") from None
    if done.returncode:
        # In a traceback, lines may follow the exception's own line, such as SQLAlchemy's link.
        lines = done.stderr.strip().splitlines() or ["it failed"]
        errors = [line for line in lines if re.match(r"[\w.]+: ", line)]
        raise ServerError(f"{command}: {(errors or lines)[-1]}")


def find(state: State, say: Say, *, management: bool, db: str | None) -> BackingServices:
    """Return the servers that the environment names, and private servers in place of the others.

    Private servers are fetched if the machine lacks them. Raises ServerError. RabbitMQ's management plugin
    is off by default, because the broker takes 5 s longer to stop with it.
    """
    amqp_uri, consul_addr = os.environ.get("AMQP_URI"), os.environ.get("CONSUL_HTTP_ADDR")
    database_url = os.environ.get("DATABASE_URL")
    _check_environment(amqp_uri, consul_addr, database_url, db, say)
    with ThreadPoolExecutor(3) as pool:
        rabbit = None if amqp_uri else pool.submit(rabbitmq.find_or_fetch, state.cache, say)
        agent = None if consul_addr else pool.submit(consul.find_or_fetch, state.cache, say)
        postgres = pool.submit(postgresql.find_or_fetch, state.cache, say) if db == "postgresql" else None
        broker = rabbit.result().node(state.data / "rabbitmq", management=management) if rabbit else None
        installed = agent.result() if agent else None
        database = postgres.result().server(state.data / "postgresql") if postgres else None
    registry = installed.agent(state.data / "consul") if installed else None
    if registry is None and not consul_addr:
        say("running without Consul, on static addresses")
    if broker and broker.management_url:
        say(f"RabbitMQ's management: {broker.management_url}")
    return BackingServices(
        amqp_uri=broker.amqp_uri if broker else amqp_uri or "",
        consul_addr=registry.http_addr if registry else consul_addr,
        database_url=database_url or _private_url(database, state),
        private=_by_name(broker, registry, database),
        members=_members(broker, registry, database),
    )


def _check_environment(
    amqp_uri: str | None, consul_addr: str | None, database_url: str | None, db: str | None, say: Say
) -> None:
    """Check the servers that the environment names. Raises ServerError."""
    if amqp_uri:
        check_broker(amqp_uri)
    if consul_addr and not consul_answers(consul_addr):
        say(f"CONSUL_HTTP_ADDR: no agent answers at {consul_addr}: running without Consul until it does")
    if database_url and db:
        raise ServerError(f"DATABASE_URL and --db {db} exclude each other: unset one of them")
    if database_url:
        check_databases(database_url)


def _private_url(database: PostgreSQL | None, state: State) -> str:
    return database.url_for("{service}") if database else f"sqlite:///{state.data}/{{service}}.db"


def _by_name(
    broker: RabbitMQ | None, registry: Consul | None, database: PostgreSQL | None
) -> dict[str, Server]:
    servers: dict[str, Server | None] = {"rabbitmq": broker, "consul": registry, "postgresql": database}
    return {name: server for name, server in servers.items() if server}


def _members(broker: RabbitMQ | None, registry: Consul | None, database: PostgreSQL | None) -> list[Member]:
    ports = {
        "rabbitmq": broker and broker.ports.amqp,
        "consul": registry and registry.ports.http,
        "postgresql": database and database.port,
    }
    return [Member(name, name, f"127.0.0.1:{port}") for name, port in ports.items() if port]
