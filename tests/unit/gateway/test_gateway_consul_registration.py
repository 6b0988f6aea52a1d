"""The registration in Consul, at an agent of a few lines of HTTP."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.app import create_app
from gateway.consul import ConsulRegistration
from nameko_mesh.discovery.consul_registration import reachable_address
from tests.waiting import eventually_async


class Agent(BaseHTTPRequestHandler):
    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        catalogue = self.server.catalogue
        if self.path.startswith("/v1/agent/service/register"):
            service = json.loads(body)
            catalogue[service["id"]] = service
        else:
            catalogue.pop(self.path.rpartition("/")[2], None)
        self.server.tokens.add(self.headers.get("X-Consul-Token"))
        self._answer(b"")

    def do_GET(self):
        self._answer(json.dumps(self.server.catalogue).encode())

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def agent():
    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        server.catalogue, server.tokens = {}, set()
        server.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_instance_is_registered_until_it_stops(agent, make_settings):
    settings = make_settings(CONSUL_HTTP_ADDR=agent.address, CONSUL_HTTP_TOKEN="t", GATEWAY_PORT=8123)
    registration = ConsulRegistration(settings, agent.address)

    registration.start()
    await eventually_async(lambda: agent.catalogue)
    [service] = agent.catalogue.values()
    await registration.stop()

    assert (service["name"], service["address"], service["port"]) == ("gateway", "127.0.0.1", 8123)
    assert service["id"].startswith("gateway-127-0-0-1-8123")
    [check] = service["checks"]
    assert check["http"] == "http://127.0.0.1:8123/ready"
    assert check["DeregisterCriticalServiceAfter"]
    assert agent.catalogue == {}
    assert agent.tokens == {"t"}


async def test_instance_deregisters_before_it_drains(agent, make_settings, mesh):
    app = create_app(make_settings(CONSUL_HTTP_ADDR=f"http://{agent.address}"), mesh)

    async with app.router.lifespan_context(app):
        await eventually_async(lambda: agent.catalogue)
        await app.state.lifecycle.drain()

        assert agent.catalogue == {}
        assert mesh.is_connected


async def test_instance_serves_without_an_agent(make_settings, mesh, unused_port):
    app = create_app(make_settings(CONSUL_HTTP_ADDR=f"127.0.0.1:{unused_port}"), mesh)

    async with app.router.lifespan_context(app):
        assert app.state.lifecycle.not_ready() is None


def test_wildcard_host_is_registered_with_the_address_of_the_route_to_consul():
    assert reachable_address("0.0.0.0", "http://127.0.0.1:8500") == "127.0.0.1"
    assert reachable_address("10.1.2.3", "127.0.0.1:8500") == "10.1.2.3"


async def test_advertised_address_is_registered(agent, make_settings):
    settings = make_settings(GATEWAY_HOST="0.0.0.0", ADVERTISE_ADDRESS="10.9.8.7", GATEWAY_PORT=80)
    registration = ConsulRegistration(settings, agent.address)

    registration.start()
    await eventually_async(lambda: agent.catalogue)
    await registration.stop()

    assert registration._registrar.instance.address == "10.9.8.7"
