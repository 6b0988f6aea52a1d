"""Fixtures: the gateway as a process, a real RabbitMQ, and stock Nameko services behind it."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.auth.tokens import Tokens
from mycelium.servers import consul as consul_server
from mycelium.servers import rabbitmq, running
from tests.waiting import eventually

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("MYCELIUM_CACHE", ROOT / ".mycelium" / "cache"))
SECRET = "a secret of the tests, 32 bytes or more"
TIMEOUT_SECONDS = 30.0


class Process:
    """A child process whose output goes to a file. It ends with its test."""

    def __init__(self, arguments, log, **environment):
        self.log = log
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "CONSUL"))
        }
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, *arguments],
                env={**kept, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    def ask_to_stop(self):
        self.child.send_signal(signal.SIGTERM)

    def exit_code(self, seconds=TIMEOUT_SECONDS):
        return self.child.wait(seconds)

    def end(self):
        if self.child.poll() is None:
            self.ask_to_stop()
            try:
                self.exit_code(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class GatewayProcess(Process):
    @property
    def url(self):
        def listening():
            if self.child.poll() is not None:  # an AssertionError would count as not yet
                raise RuntimeError(f"the gateway has ended:\n{self.output}")
            return re.search(r"listening on (\S+) port (\d+)", self.output)

        host, port = eventually(listening, TIMEOUT_SECONDS).groups()
        return f"http://{host}:{port}"


@pytest.fixture(scope="session")
def amqp_uri(tmp_path_factory):
    """The URI of a broker for these tests alone."""
    folder = tmp_path_factory.mktemp("rabbitmq")
    node = rabbitmq.find_or_fetch(CACHE, print).node(folder / "data", management=False)
    with running(*node.programs, log_dir=folder) as processes:
        processes.wait_until(node.is_ready, 60, "RabbitMQ")
        yield node.amqp_uri


@pytest.fixture
def consul(tmp_path):
    """An agent for this test alone, and its processes. The test may stop and start it."""
    agent = consul_server.find_or_fetch(CACHE, print).agent(tmp_path / "consul")
    with running(*agent.programs, log_dir=tmp_path) as processes:
        processes.wait_until(agent.is_ready, 30, "Consul")
        yield agent, processes


@pytest.fixture
def start_gateway(tmp_path):
    """Return a function that starts a gateway and returns once it serves. Gateways end with the test."""
    started = []

    def start(amqp_uri, **environment):
        settings = {"AMQP_URI": amqp_uri, "JWT_SECRET": SECRET, "GATEWAY_PORT": "0", **environment}
        process = GatewayProcess(["-m", "gateway"], tmp_path / f"gateway-{len(started)}.log", **settings)
        started.append(process)
        eventually(lambda: _is_alive(process), TIMEOUT_SECONDS)
        return process

    yield start
    for process in started:
        process.end()


def _is_alive(process):
    try:
        return httpx.get(f"{process.url}/health").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def arrived(tmp_path_factory):
    """The folder in which the stubs leave a file for each order that reached them."""
    return tmp_path_factory.mktemp("stubs")


@pytest.fixture(scope="session")
def stubs(amqp_uri, arrived, tmp_path_factory):
    """The process of orders and products. The service users never runs on this broker."""
    log = tmp_path_factory.mktemp("nameko") / "stubs.log"
    arguments = ["-m", "nameko", "run", "--define", f"AMQP_URI={amqp_uri}", "gateway_stubs"]
    process = Process(arguments, log, STUBS_DIR=str(arrived), PYTHONPATH=str(HERE))
    try:
        eventually(
            lambda: process.output.count("Connected to amqp") >= 1 or process.child.poll() is not None,
            TIMEOUT_SECONDS,
        )
        assert process.child.poll() is None, process.output
        yield process
    finally:
        process.end()


@pytest.fixture
def gateway(start_gateway, amqp_uri, stubs):
    process = start_gateway(amqp_uri)
    eventually(lambda: httpx.get(f"{process.url}/products/P001").is_success, TIMEOUT_SECONDS)
    return process


@pytest.fixture
def alice():
    return {"Authorization": f"Bearer {Tokens(SECRET.encode(), 600).issue('U001', 'user')}"}


@pytest.fixture
async def http(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=TIMEOUT_SECONDS) as client:
        yield client


class Proxy:
    """A TCP proxy to the broker that a test can close and open again."""

    def __init__(self, host, port):
        self._target = host, port
        self._open = set()
        self._server = None

    async def open(self, port=0):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= {writer, far_writer}

    @staticmethod
    async def _pump(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
async def proxy(amqp_uri):
    broker = urlsplit(amqp_uri)
    proxy = Proxy(broker.hostname, broker.port)
    await proxy.open()
    proxy.uri = broker._replace(netloc=f"{broker.username}:{broker.password}@127.0.0.1:{proxy.port}").geturl()
    yield proxy
    await proxy.close()


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def run_gateway():
    """Return a function that runs a gateway until it exits by itself."""

    def run(**environment):
        kept = {
            name: os.environ[name]
            for name in os.environ
            if name in ("PATH", "HOME") or name[:8] == "COVERAGE"
        }
        return subprocess.run(
            [sys.executable, "-m", "gateway"],
            env={**kept, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    return run
