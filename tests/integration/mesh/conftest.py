"""Nameko containers over a real broker: every test has a virtual host of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import eventlet
import pytest
from eventlet import tpool
from eventlet.green import subprocess as green_subprocess
from nameko import config

from mesh import tables
from mesh.engines import open_engine
from mesh.outbox_rows import OutboxStore
from mycelium.servers import free_port
from mycelium.state import ROOT
from tests.integration.mesh.grpc_shop import Shop


@pytest.fixture(scope="session", autouse=True)
def _broker(rabbitmq_node: Any, request: pytest.FixtureRequest) -> None:
    """Nameko's own fixtures take the broker from these options."""
    request.config.option.RABBIT_AMQP_URI = rabbitmq_node.amqp_uri
    request.config.option.RABBIT_API_URI = rabbitmq_node.management_url


@pytest.fixture(autouse=True)
def mesh_config(rabbit_config: None, tmp_path: Path) -> Iterator[None]:
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/{{service}}.db",
        "HEALTH_PORT": 0,
        "SERVICE_CONTAINER_CLS": "mesh.container.Container",
        "HEARTBEAT": 10,
    }
    with config.patch(settings):
        yield


@pytest.fixture
def outbox_store(tmp_path: Path) -> Iterator[OutboxStore]:
    """The outbox of a service called `source`."""
    engine = open_engine(f"sqlite:///{tmp_path}/source.db")
    tables.metadata.create_all(engine)
    yield OutboxStore(engine)
    engine.dispose()


@pytest.fixture
def queue_of(rabbit_manager: Any) -> Callable[[str], dict[str, Any]]:
    """What the broker says of a queue."""

    def ask(name: str) -> dict[str, Any]:
        vhost = config["AMQP_URI"].rsplit("/", 1)[1]
        answer: dict[str, Any] = rabbit_manager.get_queue(vhost, name)
        return answer

    return ask


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def shop(container_factory: Any, port: int) -> Iterator[Any]:
    Shop.entered.clear()
    with config.patch({"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": port}):
        container = container_factory(Shop)
        container.start()
        yield container


@pytest.fixture
def call_shop(port: int) -> Callable[[str, str], Any]:
    """Runs a program beside this file with a scenario: what it prints as JSON."""

    def play(program: str, scenario: str) -> Any:
        path = Path(__file__).with_name(program)
        done = green_subprocess.Popen(
            [sys.executable, str(path), f"127.0.0.1:{port}", scenario],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with eventlet.Timeout(90):
            out, errors = tpool.execute(done.communicate)
        assert done.returncode == 0, errors
        return json.loads(out.splitlines()[-1])

    return play


@pytest.fixture
def called(shop: Any, call_shop: Callable[[str, str], Any]) -> Callable[[str], Any]:
    """What grpcio's client says of a scenario."""
    return partial(call_shop, "grpc_caller.py")
