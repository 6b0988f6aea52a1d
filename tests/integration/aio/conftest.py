"""A private RabbitMQ for the session, stock services in their own process, and both event loops."""

import asyncio
import json
import os
import sys
import time
import urllib.request
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import uvloop

from mycelium.servers import Program, rabbitmq, running
from nameko_mesh.aio import RpcClient
from tests.integration.aio.stock_answers import answering

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Broker:
    """The private node: its addresses, its management API and its command line."""

    def __init__(self, node):
        self.amqp_uri = node.amqp_uri
        self._management = urlsplit(node.management_url)
        self._program = node.programs[-1]

    def api(self, method, path):
        url = f"http://{self._management.hostname}:{self._management.port}/api/{path}"
        login = b64encode(f"{self._management.username}:{self._management.password}".encode()).decode()
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def connections(self, name):
        """Return the node's connections under a client's name. The node's list lags behind by seconds."""
        return [each for each in self.api("GET", "connections") if each.get("user_provided_name") == name]

    def close_connections(self, name):
        """Close the connections as an operator would. Return their number."""
        connections = self.connections(name)
        for each in connections:
            self.api("DELETE", f"connections/{quote(each['name'], safe='')}")
        return len(connections)

    def queues(self, part):
        return [each["name"] for each in self.api("GET", "queues") if part in each["name"]]

    async def control(self, *arguments):
        """Run rabbitmqctl on the node."""
        command = Path(self._program.command[-1]).with_name("rabbitmqctl")
        if not command.exists():
            pytest.skip("this node runs in a container, out of reach of rabbitmqctl")
        process = await asyncio.create_subprocess_exec(
            command,
            *arguments,
            env={**os.environ, **self._program.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, output.decode()


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rabbitmq")
    cache = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache"))
    node = rabbitmq.find_or_fetch(cache, print).node(folder / "data")
    with running(*node.programs, log_dir=folder / "logs") as processes:
        processes.wait_until(node.is_ready, 60, "RabbitMQ")
        yield Broker(node)


class Services:
    """The process of the stock services, which can be stopped and started again."""

    def __init__(self, processes, program):
        self._processes = processes
        self._program = program

    def start(self):
        self._processes.start(self._program)

    def stop(self):
        self._processes.stop(self._program)


@pytest.fixture(scope="session")
def services(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("services")
    config = folder / "config.yml"
    config.write_text(json.dumps({"AMQP_URI": broker.amqp_uri, "max_workers": 50}))
    program = Program(
        name="stock",
        command=(sys.executable, "-m", "nameko", "run", "--config", str(config), "stock_services"),
        directory=folder,
        environment={"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with running(program, log_dir=folder) as processes:
        yield Services(processes, program)


@pytest.fixture
async def connect(broker, services):
    """Make clients. Stop them at the end, and check that no task of theirs is left."""
    before = asyncio.all_tasks()
    clients = []

    async def make(**options):
        name = f"test{len(clients)}-{time.monotonic_ns()}"
        client = RpcClient(broker.amqp_uri, **({"name": name, "default_timeout": 10.0} | options))
        clients.append(client)
        await client.start()
        return client

    yield make
    for client in clients:
        await client.stop(drain=0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks were left behind: {left}"


@pytest.fixture
async def client(connect):
    """Return a client as soon as the stock services answer."""
    client = await connect()
    await answering(client)
    return client
