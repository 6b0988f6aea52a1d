"""Start private servers, databases, services and gateway, and stop them all in reverse order."""

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
from mycelium.runner.backing_services import BackingServices
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
from mycelium.runner.supervisor import Supervisor, failed_start
from mycelium.servers import ServerError, port_is_free, wait_until
from mycelium.state import State

READY_TIMEOUT_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A mesh that is ready."""

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
    """Start the mesh, wait until it is ready, and stop it at the end of the block.

    Raises AlreadyRunning, ServerError, or TimeoutError that names the processes that are not ready.
    """
    check_folder(state.home)
    state.make()
    with state.locked():
        backing = backing_services.find(state, say, management=management, db=db)
        plan = _Plan.make(state, backing, scale, port, say)
        supervisor = Supervisor(state)
        try:
            supervisor.start(plan.groups, plan.environment)
            backing.start(state, supervisor, plan.environment, say)
            _start_mesh(plan, supervisor, state, say)
            state.write_members([*backing.members, *(process.member for process in plan.mesh)])
            state.write_env(_without_signing_key(plan.environment))
            with watched(state, plan.mesh, say):
                yield Running(state, supervisor, plan.environment, plan.environment["GATEWAY_URL"])
        finally:
            say("stopping")
            supervisor.stop(2 * DRAIN_SECONDS)
            state.forget_what_ran()
            say("stopped")


@dataclass(frozen=True, slots=True)
class _Plan:
    """All processes of a mesh, and the environment that they share."""

    backing: BackingServices
    services: list[PlannedProcess]
    gateways: list[PlannedProcess]
    environment: dict[str, str]

    @classmethod
    def make(
        cls, state: State, backing: BackingServices, scale: Mapping[str, int], port: int | None, say: Say
    ) -> _Plan:
        """Choose ports. Raises ServerError when `port` is in use."""
        ports = Ports(well_known=state.is_own)
        gateway_port = _gateway_port(ports, port, say)
        services = plan_services(scale, ports)
        grpc = [process.member.address or "" for process in services if process.member.service == "products"]
        gateways = plan_gateways(scale[GATEWAY], gateway_port, ports, grpc)
        environment = _environment(state, backing, gateway_port, gateways, grpc)
        return cls(backing, services, gateways, environment)

    @property
    def mesh(self) -> list[PlannedProcess]:
        return [*self.services, *self.gateways]

    @property
    def groups(self) -> dict[str, list[Any]]:
        """Programs by group. Groups stop in reverse order, so the broker outlives its clients."""
        return {
            **{f"server-{program.name}": [program] for program in self.backing.programs},
            "services": [process.program for process in self.services],
            "edge": [process.program for process in self.gateways],
        }


def _gateway_port(ports: Ports, port: int | None, say: Say) -> int:
    """Return the gateway's port. Raises ServerError when the requested port is in use."""
    if port is not None:
        if not port_is_free(port):
            raise ServerError(f"port {port} is in use: choose another port, or omit --port to get a free one")
        ports.reserve(port)
        return port
    free = ports.take(GATEWAY_PORT)
    if free != GATEWAY_PORT:
        say(f"the gateway takes port {free}: {GATEWAY_PORT} is in use, or reserved for the checkout's mesh")
    return free


def _environment(
    state: State,
    backing: BackingServices,
    gateway_port: int,
    gateways: Sequence[PlannedProcess],
    grpc: Sequence[str],
) -> dict[str, str]:
    metrics_ports = [process.program.environment["GATEWAY_METRICS_PORT"] for process in gateways]
    return {
        "AMQP_URI": backing.amqp_uri,
        **({"CONSUL_HTTP_ADDR": backing.consul_addr} if backing.consul_addr else {}),
        "DATABASE_URL": backing.database_url,
        "GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "METRICS_URL": ",".join(f"http://127.0.0.1:{port}/metrics" for port in metrics_ports),
        "PRODUCTS_GRPC": ",".join(grpc),
        "OUTBOX_DIR": str(state.home / "outbox"),
        "SERVICE_VERSION": os.environ.get("SERVICE_VERSION") or version("mycelium"),
        "PYTHONWARNINGS": "ignore::Warning:nameko.extensions",  # silences eventlet's deprecation notice
        **state.secrets(),
    }


def _without_signing_key(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `.mycelium/env` may hold: everything except the key that signs tokens."""
    return {name: value for name, value in environment.items() if name != "JWT_SECRET"}


def _start_mesh(plan: _Plan, supervisor: Supervisor, state: State, say: Say) -> None:
    say(f"starting {', '.join(process.member.name for process in plan.mesh)}")
    supervisor.start_group("services")
    supervisor.start_group("edge")
    _wait_until_ready(plan.mesh, supervisor, state)


def _wait_until_ready(mesh: Sequence[PlannedProcess], supervisor: Supervisor, state: State) -> None:
    waiting = {process.member.name: process.ready_url for process in mesh}

    def all_ready() -> bool:
        if supervisor.wait(0):
            raise ServerError(f"the supervisor has ended: see {state.supervisor_log}")
        # Checked before the URLs, because another mesh may answer on a port that this mesh failed to get.
        if reason := failed_start(state):
            raise ServerError(reason)
        for name, url in list(waiting.items()):
            if answers(url):
                del waiting[name]
        return not waiting

    try:
        wait_until(all_ready, READY_TIMEOUT_SECONDS, "the mesh")
    except TimeoutError:
        names = ", ".join(waiting)
        raise TimeoutError(
            f"not ready after {READY_TIMEOUT_SECONDS:.0f} s: {names}; see {state.logs}"
        ) from None


class Interrupt:
    """Turns the first SIGINT, SIGTERM or SIGHUP into KeyboardInterrupt, and ignores later signals.

    A second Ctrl-C must not interrupt the orderly stop that the first one began.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._set.is_set():
            self._set.set()
            raise KeyboardInterrupt

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Return after a signal, or once `is_over()` returns True."""
        try:
            while not is_over():
                time.sleep(1.0)
        except KeyboardInterrupt:
            return
