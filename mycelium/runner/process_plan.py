"""The processes of a mesh, each with its command and its settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers import Program, ServerError, free_port, port_is_free
from mycelium.state import ROOT, Member

SERVICES = ("products", "users", "orders", "notifications")
GATEWAY = "gateway"
GATEWAY_PORT = 8000
METRICS_PORT = 8001
GRPC_PORT = 50051
DRAIN_SECONDS = 30.0
MAX_INSTANCES = 16


class InvalidScale(ValueError):
    """SCALE is not a list of SERVICE=NUMBER."""


class InvalidDatabaseUrl(ServerError):
    """The URL would give several services the same database."""


@dataclass(frozen=True, slots=True)
class PlannedProcess:
    """A process to start, and the URL under which it reports its state."""

    program: Program
    member: Member
    status_url: str

    @property
    def ready_url(self) -> str:
        return f"{self.status_url}/ready"

    @property
    def health_url(self) -> str:
        return f"{self.status_url}/health"


def parse_scale(text: str) -> dict[str, int]:
    """Return instances by service from a text such as `products=2,gateway=2`; 1 for a service not named.

    Raises InvalidScale.
    """
    scale = dict.fromkeys((*SERVICES, GATEWAY), 1)
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in scale or not number.isdigit() or not 1 <= int(number) <= MAX_INSTANCES:
            valid = ", ".join(f"{service}=1..{MAX_INSTANCES}" for service in scale)
            raise InvalidScale(f"SCALE: {part!r} is not one of {valid}")
        scale[name] = int(number)
    return scale


def database_url_for(template: str, service: str) -> str:
    """Return the URL of a service's database. Raises InvalidDatabaseUrl for a template without {service}."""
    if "{service}" not in template:
        raise InvalidDatabaseUrl("DATABASE_URL: expected {service}, which is replaced by each service's name")
    return template.replace("{service}", service)


class Ports:
    """Hands out each port once.

    Only the mesh of the checkout's own state folder takes well-known ports. A port is taken long after it
    was found free. Two meshes that start together would choose the same ports.
    """

    def __init__(self, *, well_known: bool) -> None:
        self._well_known = well_known
        self._taken: set[int] = set()

    def take(self, preferred: int = 0) -> int:
        """Return the preferred port if it may be used and is free, else a random free port."""
        port = preferred if preferred and self._well_known else free_port()
        while port in self._taken or not port_is_free(port):
            port = free_port()
        self.reserve(port)
        return port

    def reserve(self, port: int) -> None:
        """Never hand out this port."""
        self._taken.add(port)


def plan_services(scale: Mapping[str, int], ports: Ports) -> list[PlannedProcess]:
    return [
        _plan_service(service, number, scale[service], ports)
        for service in SERVICES
        for number in range(1, scale[service] + 1)
    ]


def _plan_service(service: str, number: int, instances: int, ports: Ports) -> PlannedProcess:
    name = service if instances == 1 else f"{service}-{number}"
    health_port = ports.take()
    environment = {"HEALTH_PORT": str(health_port)}
    address = f"127.0.0.1:{health_port}"
    if service == "products":
        grpc_port = ports.take(GRPC_PORT + number - 1)
        environment["GRPC_BIND_PORT"] = str(grpc_port)
        address = f"127.0.0.1:{grpc_port}"
    program = Program(
        name=name,
        command=(_bin("nameko"), "run", "--config", "config.yml", f"services.{service}.service"),
        environment=environment,
        directory=ROOT,
        stop_seconds=DRAIN_SECONDS,
    )
    return PlannedProcess(program, Member(name, service, address), f"http://127.0.0.1:{health_port}")


def plan_gateways(number: int, port: int, ports: Ports, products_grpc: list[str]) -> list[PlannedProcess]:
    """Plan the gateways. A single gateway owns the port; several share it and each has its own port too."""
    if number == 1:
        return [_plan_gateway(GATEWAY, port, ports.take(METRICS_PORT), products_grpc)]
    shared = {"GATEWAY_SHARED_PORT": str(port), "GATEWAY_INSTANCES": str(number)}
    return [
        _plan_gateway(
            f"{GATEWAY}-{index + 1}", ports.take(), ports.take(METRICS_PORT + index), products_grpc, **shared
        )
        for index in range(number)
    ]


def _plan_gateway(
    name: str, port: int, metrics_port: int, products_grpc: list[str], **shared: str
) -> PlannedProcess:
    program = Program(
        name=name,
        command=(sys.executable, "-m", "gateway"),
        environment={
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(metrics_port),
            "PRODUCTS_GRPC": ",".join(products_grpc),
            **shared,
        },
        directory=ROOT,
        stop_seconds=DRAIN_SECONDS,
    )
    return PlannedProcess(program, Member(name, GATEWAY, f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}")


def _bin(name: str) -> str:
    """Return the path of a command in this interpreter's environment."""
    return str(Path(sys.executable).parent / name)
