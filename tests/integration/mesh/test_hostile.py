"""What a stranger can send must neither end a process nor hang one."""

from __future__ import annotations

import eventlet
import pytest
from kombu import Connection, Exchange
from nameko import config
from nameko.testing.services import dummy, entrypoint_hook

from mesh.container import Container
from mesh.rpc import ServiceClient, rpc
from mesh.subscription import event_handler
from mycelium.servers import free_port
from tests.waiting import eventually

HOSTILE_HEADERS = [
    {"call_id_stack": 5},
    {"nameko.call_id_stack": 5},
    {"call_id_stack": "text"},
    {"nameko.call_id_stack": [{"a": 1}]},
    {"deadline": "soon"},
    {"nameko.deadline": {"a": 1}},
    {"nameko.nameko.call_id_stack": 5},
    {"": "", "nameko.": 1},
]


class Victim:
    name = "victim"
    heard: list[dict] = []

    @rpc
    def echo(self, value):
        return value

    @event_handler("stranger", "happened")
    def on_happened(self, event):
        self.heard.append(event)


class Friend:
    name = "friend"
    victim = ServiceClient("victim", timeout=5)

    @dummy
    def call(self, value):
        return self.victim.echo(value=value)


@pytest.fixture
def victim(container_factory):
    Victim.heard.clear()
    container = container_factory(Victim)
    container.start()
    return container


@pytest.fixture
def call(container_factory):
    friend = container_factory(Friend)
    friend.start()
    with entrypoint_hook(friend, "call") as hook:
        yield hook


def publish(exchange, routing_key, body, **properties):
    with Connection(config["AMQP_URI"]) as connection:
        producer = connection.Producer(exchange=Exchange(exchange, type="topic"), auto_declare=False)
        producer.publish(body, routing_key=routing_key, serializer="json", **properties)


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=str)
def test_hostile_headers_end_nobody(victim, call, headers):
    publish("nameko-rpc", "victim.echo", {"args": [], "kwargs": {"value": 1}}, headers=headers, reply_to="x")
    publish("stranger.events", "happened", {"a": 1}, headers=headers)
    eventually(lambda: Victim.heard == [{"a": 1}])
    assert call(value=7) == 7
    assert not victim._died.ready()


def test_a_container_that_dies_while_it_starts_does_not_hang():
    class Doomed(Container):
        def spawn_managed_thread(self, fn, identifier=None):
            def fail():
                raise RuntimeError("poison")

            return super().spawn_managed_thread(fail, identifier)

    container = Doomed(Victim)
    with eventlet.Timeout(10), pytest.raises(RuntimeError, match="poison"):
        container.start()


def test_a_service_waits_for_a_broker_that_is_away(container_factory):
    with config.patch({"AMQP_URI": f"pyamqp://guest:guest@127.0.0.1:{free_port()}//"}):
        container = container_factory(Victim)
        starting = eventlet.spawn(container.start)
        eventlet.sleep(0.5)
        assert not starting.dead
        with eventlet.Timeout(10):
            container.stop()  # SIGTERM meanwhile: it leaves, and leaves nothing undone
            starting.wait()
            container.wait()
