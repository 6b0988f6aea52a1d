"""An echo over RPC: each service with each client, in one process on each side."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.call_rates import Caller
from bench.measure import turns
from bench.options import Options
from bench.results import Sample
from bench.servers import backend_servers, mesh_service, pids, stock_service
from mycelium.servers import running
from mycelium.state import ROOT

IN_FLIGHT = (1, 16, 64)
READY_TIMEOUT_SECONDS = 30
_SERVICES = {"stock": "stock_echo", "nameko_mesh.rpc": "mesh_echo"}
_CLIENTS = {"RpcClient": "rpc_client", "ServiceRpcClient": "nameko_client"}


def rpc(options: Options) -> tuple[list[Sample], dict[str, float]]:
    folder = options.folder / "rpc"
    with backend_servers(folder) as base:
        programs = (
            stock_service("stock", "bench.programs.rpc_stock", **base.environment),
            mesh_service("nameko_mesh.rpc", "bench.programs.rpc_mesh", **base.environment),
        )
        with running(*programs, log_dir=folder / "logs") as processes:
            for target in _SERVICES.values():
                processes.wait_until(lambda: _echoes(target, base.environment), READY_TIMEOUT_SECONDS, target)  # noqa: B023
            callers = [
                Caller(
                    name=f"{service}, {client}",
                    program=program,
                    target=target,
                    roots={"service": pids(processes)[service], "rabbitmq": base.pids["rabbitmq"]},
                    environment=base.environment,
                )
                for client, program in _CLIENTS.items()
                for service, target in _SERVICES.items()
            ]
            samples = [
                caller.run("rpc", in_flight, number, options)
                for in_flight in IN_FLIGHT
                for number, caller in turns(callers, options.rounds)
            ]
    return samples, {}


def _echoes(service: str, environment: dict[str, str]) -> bool:
    command = [sys.executable, "-m", "bench.programs.rpc_client", service, "1", "0.1"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True)
    return done.returncode == 0
