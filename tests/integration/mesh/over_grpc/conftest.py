"""Services that are called over gRPC, in this process or in their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import eventlet
import pytest
from eventlet import tpool
from eventlet.green import subprocess as green_subprocess
from nameko import config

from mycelium.state import ROOT
from nameko_mesh.grpc import GrpcServer
from nameko_mesh.grpc.http2 import limits
from tests.integration.mesh.over_grpc.echo import Diary, EchoService
from tests.integration.mesh.over_grpc.stranger import Stranger
from tests.waiting import eventually

HERE = Path(__file__).parent
SECONDS = 90
FULL = (limits.MAX_CALLS, limits.MAX_REQUEST_BYTES)
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}


@pytest.fixture
def program() -> Callable[..., Any]:
    """Run a program of this folder in an unpatched process, and return the JSON of its last line.

    `hear` gets the lines before it as they arrive.
    """

    def run(name: str, *arguments: str, hear: Callable[[str], None] = lambda line: None) -> Any:
        command = [sys.executable, "-W", "ignore", str(HERE / name), *arguments]
        done = green_subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        last = ""
        with eventlet.Timeout(SECONDS):
            while line := tpool.execute(done.stdout.readline):
                hear(last := line.strip())
            _, errors = tpool.execute(done.communicate)
        assert done.returncode == 0, errors
        return json.loads(last)

    return run


@pytest.fixture
def start(container_factory: Any) -> Callable[..., Any]:
    """Start a service on a free port. The container has the gRPC server as `server`."""

    def start_with(service: type, **settings: Any) -> Any:
        with config.patch({"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": 0, **settings}):
            container = container_factory(service)
            container.start()
        (container.server,) = [ext for ext in container.extensions if isinstance(ext, GrpcServer)]
        return container

    return start_with


@pytest.fixture
def echo(start: Callable[..., Any]) -> Iterator[Any]:
    Diary.entries.clear()
    EchoService.gate = eventlet.Event()
    container = start(EchoService)
    yield container
    shared = container.server.listener.shared
    if not EchoService.gate.ready():
        EchoService.gate.send()
    # In the end nothing is held for any call.
    eventually(lambda: (shared.calls.left, shared.request_bytes.left) == FULL)


@pytest.fixture
def stranger(echo: Any) -> Iterator[Stranger]:
    with Stranger(echo.server.bound_port) as client:
        client.listen()  # for the window that the server grants
        yield client
