"""Instances: a service follows the instances of another service in Consul."""

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
        return next(provider for provider in container.dependencies if isinstance(provider, Instances)).watch

    return start_with


def register(consul_agent, endpoint):
    body = {"Name": "products", "ID": str(endpoint), "Address": endpoint.host, "Port": endpoint.port}
    url = f"{consul_agent.http_addr}/v1/agent/service/register"
    requests.put(url, json=body, timeout=5).raise_for_status()


def test_new_registrations_appear_in_endpoints(start, consul_agent):
    watch = start(CONSUL_HTTP_ADDR=consul_agent.http_addr)
    assert watch.endpoints == ()

    register(consul_agent, A)
    eventually(lambda: watch.endpoints == (A,))
    register(consul_agent, B)
    eventually(lambda: watch.endpoints == (A, B))


def test_without_consul_the_setting_gives_the_endpoints(start):
    assert start(PRODUCTS_GRPC=f"{A},{B}").endpoints == (A, B)


def test_unreachable_consul_leaves_the_endpoints_of_the_setting(start):
    watch = start(CONSUL_HTTP_ADDR=f"127.0.0.1:{free_port()}", PRODUCTS_GRPC=str(A))

    eventually(lambda: watch.pause_seconds() > 0)
    assert watch.endpoints == (A,)
