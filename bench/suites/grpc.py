"""GetProduct from memory over gRPC: stock nameko-grpc beside the mesh's, with grpcio's client."""

from __future__ import annotations

import socket

from bench.call_rates import Caller
from bench.measure import turns
from bench.options import Options
from bench.results import Sample
from bench.servers import backend_servers, mesh_service, pids, stock_service
from mycelium.servers import free_ports, running

IN_FLIGHT = (1, 64)
READY_TIMEOUT_SECONDS = 30
_STOCK, _MESH = "stock nameko-grpc", "nameko_mesh.grpc"


def grpc(options: Options) -> tuple[list[Sample], dict[str, float]]:
    folder = options.folder / "grpc"
    ports = dict(zip((_STOCK, _MESH), free_ports(2), strict=True))
    with backend_servers(folder) as base:
        environments = {
            name: {**base.environment, "GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": str(port)}
            for name, port in ports.items()
        }
        programs = (
            stock_service(_STOCK, "bench.programs.grpc_stock", **environments[_STOCK]),
            mesh_service(_MESH, "bench.programs.grpc_mesh", **environments[_MESH]),
        )
        with running(*programs, log_dir=folder / "logs") as processes:
            for name, port in ports.items():
                processes.wait_until(lambda: _listens(port), READY_TIMEOUT_SECONDS, name)  # noqa: B023
            callers = [
                Caller(name, "grpc_client", f"127.0.0.1:{port}", {"service": pids(processes)[name]}, {})
                for name, port in ports.items()
            ]
            samples = [
                caller.run("grpc", in_flight, number, options)
                for in_flight in IN_FLIGHT
                for number, caller in turns(callers, options.rounds)
            ]
    return samples, {}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
