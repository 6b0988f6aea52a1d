"""What a mesh is made of: one entry for each process, with the settings that it is started with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers import Program, free_port, port_is_free
from mycelium.state import ROOT, Member

SERVICES = ("products", "users", "orders", "notifications")
GATEWAY = "gateway"
GATEWAY_PORT = 8000
METRICS_PORT = 8001
GRPC_PORT = 50051
DRAIN_SECONDS = 30.0


class InvalidScale(ValueError):
    """The SCALE asked for is not one."""


@dataclass(frozen=True, slots=True)
class PlannedProcess:
    """A process to be started, and where to ask how it is."""

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
    """`products=2,gateway=2` -> instances by service; every other one has one. Raises InvalidScale."""
    scale = dict.fromkeys((*SERVICES, GATEWAY), 1)
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in scale or not number.isdigit() or not 1 <= int(number) <= 16:
            raise InvalidScale(f"SCALE: {part!r} is not one of {', '.join(f'{one}=1..16' for one in scale)}")
        scale[name] = int(number)
    return scale


class Ports:
    """Hands out ports, each once: those that people know, where they are free, or any.

    A port is taken long after it was found free, so only the mesh of a checkout's own state folder
    takes those that people know: two meshes that start at once would agree on the same ones.
    """

    def __init__(self, *, well_known: bool) -> None:
        self._well_known = well_known
        self._taken: set[int] = set()

    def take(self, preferred: int = 0) -> int:
        chosen = preferred if preferred and self._well_known else free_port()
        while chosen in self._taken or not port_is_free(chosen):
            chosen = free_port()
        self.reserve(chosen)
        return chosen

    def reserve(self, port: int) -> None:
        """Hand it out to nobody else."""
        self._taken.add(port)


def plan_services(scale: Mapping[str, int], ports: Ports) -> list[PlannedProcess]:
    planned = []
    for service in SERVICES:
        for number in range(1, scale[service] + 1):
            name = service if scale[service] == 1 else f"{service}-{number}"
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
            member = Member(name, service, address)
            planned.append(PlannedProcess(program, member, f"http://127.0.0.1:{health_port}"))
    return planned


def plan_gateways(number: int, port: int, ports: Ports, products_grpc: list[str]) -> list[PlannedProcess]:
    """One has the port to itself; several share it, and each has another one for itself."""
    if number == 1:
        return [_plan_gateway(GATEWAY, port, ports.take(METRICS_PORT), products_grpc)]
    shared = {"GATEWAY_SHARED_PORT": str(port), "GATEWAY_INSTANCES": str(number)}
    return [
        _plan_gateway(
            f"{GATEWAY}-{which + 1}", ports.take(), ports.take(METRICS_PORT + which), products_grpc, **shared
        )
        for which in range(number)
    ]


def _plan_gateway(
    name: str, port: int, metrics_port: int, products_grpc: list[str], **more: str
) -> PlannedProcess:
    program = Program(
        name=name,
        command=(sys.executable, "-m", "gateway"),
        environment={
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(metrics_port),
            "PRODUCTS_GRPC": ",".join(products_grpc),
            **more,
        },
        directory=ROOT,
        stop_seconds=DRAIN_SECONDS,
    )
    return PlannedProcess(program, Member(name, GATEWAY, f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}")


def _bin(name: str) -> str:
    """A command of the environment that this interpreter belongs to."""
    return str(Path(sys.executable).parent / name)
