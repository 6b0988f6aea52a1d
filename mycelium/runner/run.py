"""From nothing to a placed order: private servers, databases, services, gateway, and back again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mycelium.runner import backing_services, first_order
from mycelium.runner.liveness import answers, watched
from mycelium.runner.preflight import check_folder
from mycelium.runner.process_plan import (
    DRAIN_SECONDS,
    GATEWAY,
    GATEWAY_PORT,
    PlannedProcess,
    Ports,
    plan_gateways,
    plan_services,
)
from mycelium.runner.supervisor import Supervisor, stuck
from mycelium.servers import ServerError, port_is_free, wait_until
from mycelium.state import State

READY_TIMEOUT_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A mesh that answers."""

    state: State
    supervisor: Supervisor
    environment: Mapping[str, str]
    gateway_url: str

    def first_order(self) -> tuple[dict[str, Any], str, bool]:
        return first_order.place(self.gateway_url, self.environment)


@contextmanager
def running(
    state: State,
    scale: Mapping[str, int],
    port: int | None,
    say: Say,
    *,
    management: bool = False,
    db: str | None = None,
) -> Iterator[Running]:
    """Start everything, wait until it is ready, and stop it all at the end.

    Raises AlreadyRunning, ServerError, or TimeoutError naming what did not become ready.
    """
    check_folder(state.home)
    state.make()
    with state.locked():
        servers = backing_services.find(state, say, management=management, db=db)
        ports = Ports(well_known=state.is_own)
        gateway_port = _gateway_port(ports, port, say)
        services = plan_services(scale, ports)
        grpc = [one.member.address or "" for one in services if one.member.service == "products"]
        gateways = plan_gateways(scale[GATEWAY], gateway_port, ports, grpc)
        environment = _environment(state, servers, gateway_port, gateways, grpc)
        supervisor = Supervisor(state)
        mesh = [*services, *gateways]
        try:
            # Stopped the other way round: the broker outlives its clients, and epmd the broker.
            groups = {
                **{f"server-{program.name}": [program] for program in servers.programs},
                "services": [one.program for one in services],
                "edge": [one.program for one in gateways],
            }
            supervisor.start(groups, environment)
            servers.start(state, supervisor, environment, say)
            say(f"starting {', '.join(one.member.name for one in mesh)}")
            supervisor.start_group("services")
            supervisor.start_group("edge")
            _wait_until_ready(mesh, supervisor, state)
            state.write_members([*servers.members, *(one.member for one in mesh)])
            state.write_env(_for_people(environment))
            with watched(state, mesh, say):
                yield Running(state, supervisor, environment, environment["GATEWAY_URL"])
        finally:
            say("stopping")
            supervisor.stop(2 * DRAIN_SECONDS)
            state.forget_what_ran()
            say("stopped")


def _gateway_port(ports: Ports, port: int | None, say: Say) -> int:
    """Raises ServerError when the port that was asked for is in use."""
    if port is not None:
        if not port_is_free(port):
            raise ServerError(f"port {port} is in use: choose another one, or none to get a free one")
        ports.reserve(port)
        return port
    chosen = ports.take(GATEWAY_PORT)
    if chosen != GATEWAY_PORT:
        say(f"the gateway takes port {chosen}: {GATEWAY_PORT} is in use, or left to the mesh of the checkout")
    return chosen


def _environment(
    state: State,
    servers: backing_services.BackingServices,
    gateway_port: int,
    gateways: Sequence[PlannedProcess],
    grpc: Sequence[str],
) -> dict[str, str]:
    metrics_ports = [one.program.environment["GATEWAY_METRICS_PORT"] for one in gateways]
    return {
        "AMQP_URI": servers.amqp_uri,
        **({"CONSUL_HTTP_ADDR": servers.consul_addr} if servers.consul_addr else {}),
        "DATABASE_URL": servers.database_url,
        "GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "METRICS_URL": ",".join(f"http://127.0.0.1:{port}/metrics" for port in metrics_ports),
        "PRODUCTS_GRPC": ",".join(grpc),
        "OUTBOX_DIR": str(state.home / "outbox"),
        "SERVICE_VERSION": os.environ.get("SERVICE_VERSION") or version("mycelium"),
        "PYTHONWARNINGS": "ignore::Warning:nameko.extensions",  # where eventlet's retirement is announced
        **state.secrets(),
    }


def _for_people(environment: Mapping[str, str]) -> dict[str, str]:
    """What `.mycelium/env` tells: all but the key that signs tokens."""
    return {name: value for name, value in environment.items() if name != "JWT_SECRET"}


def _wait_until_ready(mesh: Sequence[PlannedProcess], supervisor: Supervisor, state: State) -> None:
    waiting = {one.member.name: one.ready_url for one in mesh}

    def all_ready() -> bool:
        if supervisor.wait(0):
            raise ServerError(f"the supervisor has ended: see {state.supervisor_log}")
        if why := stuck(state):  # first: another mesh may answer on a port that ours did not get
            raise ServerError(why)
        for name, url in list(waiting.items()):
            if answers(url):
                del waiting[name]
        return not waiting

    try:
        wait_until(all_ready, READY_TIMEOUT_SECONDS, "the mesh")
    except TimeoutError:
        raise TimeoutError(
            f"not ready after {READY_TIMEOUT_SECONDS:.0f} s: {', '.join(waiting)}; see {state.logs}"
        ) from None


class Interrupt:
    """Set by the first SIGINT or SIGTERM: time to stop in good order."""

    def __init__(self) -> None:
        self._set = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._set.is_set():
            self._set.set()
            raise KeyboardInterrupt

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Until a signal comes, or it is over anyway."""
        try:
            while not is_over():
                time.sleep(1.0)
        except KeyboardInterrupt:
            return
