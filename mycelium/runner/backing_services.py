"""The backing services of a mesh: broker, registry and databases, named by the environment or our own."""

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
from mycelium.runner.supervisor import Supervisor, stuck
from mycelium.servers import Program, ServerError, consul, postgresql, rabbitmq, wait_until
from mycelium.state import ROOT, Member, State

READY_TIMEOUT_SECONDS = 90.0

Say = Callable[[str], None]


class Server(Protocol):
    """One of the private servers."""

    @property
    def programs(self) -> tuple[Program, ...]: ...

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class BackingServices:
    """What the services connect to, and those of it that are ours to run, by name."""

    amqp_uri: str
    consul_addr: str | None
    database_url: str
    own: dict[str, Server]
    members: Sequence[Member]

    @property
    def programs(self) -> list[Program]:
        return [program for server in self.own.values() for program in server.programs]

    def start(self, state: State, supervisor: Supervisor, passwords: dict[str, str], say: Say) -> None:
        """Start what is ours; the databases are migrated and seeded while the broker is on its way."""
        if self.own:
            say(f"starting {' and '.join(self.own)}")
            for program in self.programs:
                supervisor.start_group(f"server-{program.name}")
        database = self.own.get("postgresql")
        if isinstance(database, postgresql.PostgreSQL):
            self._wait(state, "postgresql", database.is_ready)
            for service in SERVICES:
                database.create_database(service)
        say("migrating and seeding the databases")
        for command in ("migrate", "seed"):
            _run_command(command, {"DATABASE_URL": self.database_url, **passwords})
        self._wait(state, " and ".join(self.own), lambda: all(one.is_ready() for one in self.own.values()))

    def _wait(self, state: State, what: str, is_ready: Callable[[], bool]) -> None:
        wait_until(is_ready, READY_TIMEOUT_SECONDS, what, log=state.logs, failure=partial(stuck, state))


def _run_command(command: str, settings: Mapping[str, str]) -> None:
    """What it imports is as much again as all that is needed to watch over the mesh, and goes with it."""
    run = [sys.executable, "-m", "mycelium", command]
    environment = {**os.environ, **settings}
    try:
        done = subprocess.run(
            run, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=READY_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ServerError(
            f"{command}: the databases did not answer within {READY_TIMEOUT_SECONDS:g} s"
        ) from None
    if done.returncode:
        errors = re.findall(
            r"^[\w.]+: .+", done.stderr, re.MULTILINE
        )  # what ends a traceback may have a tail
        raise ServerError(f"{command}: {errors[-1] if errors else 'it failed'}")


def find(state: State, say: Say, *, management: bool, db: str | None) -> BackingServices:
    """What the environment names, else private servers, fetched when need be. Raises ServerError.

    The broker's management plugin costs 5 s when the broker stops, so it is there on demand alone.
    """
    amqp_uri, consul_addr = os.environ.get("AMQP_URI"), os.environ.get("CONSUL_HTTP_ADDR")
    database_url = os.environ.get("DATABASE_URL")
    if amqp_uri:
        check_broker(amqp_uri)
    if consul_addr and not consul_answers(consul_addr):
        say(f"CONSUL_HTTP_ADDR: nobody answers at {consul_addr}: running without, until somebody does")
    if database_url and db:
        raise ServerError(f"DATABASE_URL names databases already: unset it to have {db}, or ask for none")
    if database_url:
        check_databases(database_url)
    with ThreadPoolExecutor(3) as fetching:
        rabbit = None if amqp_uri else fetching.submit(rabbitmq.find_or_fetch, state.cache, say)
        agent = None if consul_addr else fetching.submit(consul.find_or_fetch, state.cache, say)
        postgres = fetching.submit(postgresql.find_or_fetch, state.cache, say) if db == "postgresql" else None
        broker = rabbit.result().node(state.data / "rabbitmq", management=management) if rabbit else None
        found = agent.result() if agent else None
        database = postgres.result().server(state.data / "postgresql") if postgres else None
    registry = found.agent(state.data / "consul") if found else None
    if registry is None and not consul_addr:
        say("running without Consul, on static addresses")
    own: dict[str, Server] = {}
    members = []
    if broker:
        own["rabbitmq"] = broker
        amqp_uri = broker.amqp_uri
        members.append(Member("rabbitmq", "rabbitmq", f"127.0.0.1:{broker.ports.amqp}"))
        if broker.management_url:
            say(f"RabbitMQ's management: {broker.management_url}")
    if registry:
        own["consul"] = registry
        consul_addr = registry.http_addr
        members.append(Member("consul", "consul", f"127.0.0.1:{registry.ports.http}"))
    if database:
        own["postgresql"] = database
        database_url = database.url_for("{service}")
        members.append(Member("postgresql", "postgresql", f"127.0.0.1:{database.port}"))
    return BackingServices(
        amqp_uri=amqp_uri or "",
        consul_addr=consul_addr,
        database_url=database_url or f"sqlite:///{state.data}/{{service}}.db",
        own=own,
        members=members,
    )
