"""A service that finds the instances of another one."""

from __future__ import annotations

import pytest
import requests
from nameko import config

from mycelium.servers import free_port
from nameko_mesh.discovery.consul_watch import parse_endpoints
from nameko_mesh.discovery.instances import Instances
from nameko_mesh.rpc import rpc
from tests.waiting import eventually

A, B = parse_endpoints("127.0.0.1:50051,127.0.0.1:50052")


class Caller:
    name = "caller"
    products = Instances("products", static_setting="PRODUCTS_GRPC")

    @rpc
    def known(self):
        return [str(endpoint) for endpoint in self.products.endpoints]


@pytest.fixture
def start(container_factory):
    def start_with(**settings):
        with config.patch(settings):
            container = container_factory(Caller)
            container.start()
        return next(one for one in container.dependencies if isinstance(one, Instances)).watch

    return start_with


def register(consul_agent, endpoint):
    body = {"Name": "products", "ID": str(endpoint), "Address": endpoint.host, "Port": endpoint.port}
    url = f"{consul_agent.http_addr}/v1/agent/service/register"
    requests.put(url, json=body, timeout=5).raise_for_status()


def test_it_follows_the_catalogue(start, consul_agent):
    watch = start(CONSUL_HTTP_ADDR=consul_agent.http_addr)
    assert watch.endpoints == ()

    register(consul_agent, A)
    eventually(lambda: watch.endpoints == (A,))
    register(consul_agent, B)
    eventually(lambda: watch.endpoints == (A, B))


def test_without_consul_it_is_what_the_setting_says(start):
    assert start(PRODUCTS_GRPC=f"{A},{B}").endpoints == (A, B)


def test_while_consul_is_away_it_is_what_the_setting_says(start):
    watch = start(CONSUL_HTTP_ADDR=f"127.0.0.1:{free_port()}", PRODUCTS_GRPC=str(A))

    eventually(lambda: watch.pause() > 0)
    assert watch.endpoints == (A,)
