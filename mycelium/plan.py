"""What a mesh is made of: one entry for each process, with the settings that it is started with."""

from __future__ import annotations

import os
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


class BadScale(ValueError):
    """The SCALE asked for is not one."""


@dataclass(frozen=True, slots=True)
class Planned:
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


def parse_scale(text: str, environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """`products=2,gateway=2` -> instances by service, and workers of the gateway; there is one of each
    that is not named, or as many workers as GATEWAY_WORKERS says. Raises BadScale."""
    scale = dict.fromkeys((*SERVICES, GATEWAY), 1)
    workers = environment.get("GATEWAY_WORKERS") or 1
    for part in filter(None, (f"{GATEWAY}={workers}", *text.split(","))):
        name, _, number = part.partition("=")
        if name not in scale or not number.isdigit() or not 1 <= int(number) <= 16:
            raise BadScale(f"SCALE: {part!r} is not one of {', '.join(f'{one}=1..16' for one in scale)}")
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
        return self.take_row(preferred, 1)[0]

    def take_row(self, preferred: int, length: int) -> range:
        """So many, one after the other, the first of them `preferred` where that can be had."""
        first = preferred if preferred and self._well_known else free_port()
        while not self._are_free(row := range(first, first + length)):
            first = free_port()
        self._taken |= set(row)
        return row

    def _are_free(self, row: range) -> bool:
        return all(port not in self._taken and port_is_free(port) for port in row)


def plan_services(scale: Mapping[str, int], ports: Ports) -> list[Planned]:
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
            planned.append(Planned(program, member, f"http://127.0.0.1:{health_port}"))
    return planned


def plan_gateway(port: int, metrics_ports: range, products_grpc: list[str]) -> Planned:
    """With a worker for each of its metrics' ports."""
    program = Program(
        name=GATEWAY,
        command=(sys.executable, "-m", "gateway"),
        environment={
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_WORKERS": str(len(metrics_ports)),
            "GATEWAY_METRICS_PORT": str(metrics_ports[0]),
            "PRODUCTS_GRPC": ",".join(products_grpc),
        },
        directory=ROOT,
        stop_seconds=DRAIN_SECONDS,
    )
    member = Member(GATEWAY, GATEWAY, f"127.0.0.1:{port}")
    return Planned(program, member, f"http://127.0.0.1:{port}")


def _bin(name: str) -> str:
    """A command of the environment that this interpreter belongs to."""
    return str(Path(sys.executable).parent / name)
