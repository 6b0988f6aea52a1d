"""Presence: health over HTTP and registration with Consul."""

from __future__ import annotations

import eventlet
import pytest
import requests
from amqp.exceptions import NotFound
from kombu import Connection
from nameko import config

from mycelium.servers import free_port
from nameko_mesh.rpc import rpc
from nameko_mesh.runtime import Presence
from nameko_mesh.sql import Database
from tests.waiting import eventually


class Service:
    """A service without a database."""

    name = "shop"
    presence = Presence()
    entered: list[str] = []

    @rpc
    def slow(self):
        self.entered.append("slow")
        eventlet.sleep(1)


class WithDatabase(Service):
    database = Database(lambda engine, *_: engine)


@pytest.fixture
def start(container_factory):
    def start_with(service_cls=Service, **settings):
        with config.patch(settings):
            container = container_factory(service_cls)
            container.start()
        return container

    return start_with


def presence_of(container):
    (presence,) = [extension for extension in container.extensions if isinstance(extension, Presence)]
    return presence


def get(container, path):
    return requests.get(f"http://127.0.0.1:{presence_of(container).port}{path}", timeout=5)


def passing(agent):
    answer = requests.get(f"{agent.http_addr}/v1/health/service/shop?passing", timeout=5)
    return [entry["Service"] for entry in answer.json()]


def test_started_service_is_alive_and_ready(start):
    container = start()
    assert get(container, "/health").json() == {"service": "shop", "missing": []}
    eventually(lambda: get(container, "/ready").status_code == 200)
    assert get(container, "/secrets").status_code == 404


def test_service_without_a_database_needs_no_database_url(start):
    container = start(DATABASE_URL="")
    eventually(lambda: get(container, "/ready").status_code == 200)


def test_unreachable_database_is_missing_from_readiness_only(start):
    url = f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/none"
    container = start(WithDatabase, DATABASE_URL=url)
    answer = get(container, "/ready")
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database"]
    assert get(container, "/health").status_code == 200


def test_lost_consumer_fails_health_and_readiness(start):
    container = start()
    eventually(lambda: get(container, "/ready").status_code == 200)
    (consuming,) = [thread for thread, name in container._managed_threads.items() if name == "run"]
    consuming.kill()  # closes its connection first
    eventually(lambda: get(container, "/health").json()["missing"] == ["rpc-shop"])
    assert get(container, "/ready").json()["missing"] == ["consumer"]


def test_unreachable_broker_fails_readiness_only(start):
    container = start()
    with config.patch({"AMQP_URI": f"pyamqp://guest:guest@127.0.0.1:{free_port()}//"}):
        assert get(container, "/health").status_code == 200
        assert get(container, "/ready").json()["missing"] == ["broker"]


def test_consumer_of_a_deleted_queue_comes_back(start):
    container = start()
    eventually(lambda: get(container, "/ready").status_code == 200)
    with Connection(config["AMQP_URI"]) as connection:
        connection.channel().queue_delete("rpc-shop")
    with Connection(config["AMQP_URI"]) as connection:
        channel = connection.channel()
        eventually(lambda: consumers_of("rpc-shop", channel) == 1, 15)
    eventually(lambda: get(container, "/ready").status_code == 200)


def consumers_of(queue, channel):
    try:
        return channel.queue_declare(queue, passive=True).consumer_count
    except NotFound:
        return 0


def test_instance_is_registered_when_ready_and_deregistered_before_it_drains(start, consul_agent):
    container = start(CONSUL_HTTP_ADDR=consul_agent.http_addr)
    (service,) = eventually(lambda: passing(consul_agent))
    assert (service["Address"], service["Port"]) == ("127.0.0.1", presence_of(container).port)

    from nameko.standalone.rpc import ServiceRpcClient

    Service.entered.clear()
    with ServiceRpcClient("shop", timeout=5) as client:
        call = client.slow.call_async()
        eventually(lambda: Service.entered)
        stopping = eventlet.spawn(container.stop)
        eventually(lambda: passing(consul_agent) == [], 0.9)  # while the call is still in flight
        call.result()
    stopping.wait()


def test_forgotten_instance_registers_again(start, consul_agent, monkeypatch):
    monkeypatch.setattr("nameko_mesh.discovery.consul_registration.VERIFY_SECONDS", 0.1)
    start(CONSUL_HTTP_ADDR=consul_agent.http_addr)
    (service,) = eventually(lambda: passing(consul_agent))
    requests.put(f"{consul_agent.http_addr}/v1/agent/service/deregister/{service['ID']}", timeout=5)
    assert eventually(lambda: passing(consul_agent))


def test_service_without_an_agent_is_ready(start):
    container = start(CONSUL_HTTP_ADDR=f"127.0.0.1:{free_port()}")
    eventually(lambda: get(container, "/ready").status_code == 200)
    container.stop()
