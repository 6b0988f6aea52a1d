"""Hostile messages: they neither end nor hang a process."""

from __future__ import annotations

import eventlet
import pytest
from kombu import Connection, Exchange, Queue
from nameko import config
from nameko.testing.services import dummy, entrypoint_hook

from mycelium.servers import free_port
from nameko_mesh.events import event_handler
from nameko_mesh.rpc import ServiceClient, rpc
from nameko_mesh.rpc.entrypoint import MAX_CRASHES
from nameko_mesh.runtime import Container
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


def publish_raw(routing_key, body, **properties):
    with Connection(config["AMQP_URI"]) as connection:
        producer = connection.Producer(exchange=Exchange("nameko-rpc", type="topic"), auto_declare=False)
        producer.publish(body, routing_key=routing_key, **properties)


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=str)
def test_hostile_headers_leave_the_service_working(victim, call, headers):
    publish("nameko-rpc", "victim.echo", {"args": [], "kwargs": {"value": 1}}, headers=headers, reply_to="x")
    publish("stranger.events", "happened", {"a": 1}, headers=headers)
    eventually(lambda: Victim.heard == [{"a": 1}])
    assert call(value=7) == 7
    assert not victim._died.ready()


UNREADABLE = [
    {"body": b"{not json", "content_type": "application/json", "content_encoding": "utf-8"},
    {"body": b"\x80\x04N.", "content_type": "application/x-python-serialize", "content_encoding": "binary"},
    {"body": b"{}", "content_type": "application/json", "content_encoding": "utf-9"},
    {"body": b"[" * 100_000, "content_type": "application/json", "content_encoding": "utf-8"},
    {"body": b"{}", "headers": {"compression": "application/x-gzip"}, "content_type": "application/json"},
    {"body": b"", "content_type": "application/x-yaml"},
    {"body": b"\xff", "content_type": "application/json", "content_encoding": "utf-8"},
    {"body": "\u00e9".encode("utf-16"), "content_type": "application/json", "content_encoding": "utf-16"},
]
REJECTED = [
    ("victim.\ud800", {"args": [], "kwargs": {}}),  # a key that is no text
    ("victim.echo", {"args": []}),
    ("victim.echo", ["args", "kwargs"]),
    ("victim.echo", {"args": 5, "kwargs": {}}),
    ("victim.echo", {"args": [], "kwargs": {"other": 1}}),
    ("victim.missing", {"args": [], "kwargs": {}}),
]


@pytest.fixture
def answer_to():
    """Send raw bytes, and return the error of the reply."""

    def ask(routing_key, body, **properties):
        with Connection(config["AMQP_URI"]) as connection:
            channel = connection.channel()
            replies = Queue(exclusive=True, exchange=Exchange("nameko-rpc", type="topic"), routing_key="me")(
                channel
            )
            replies.declare()
            connection.Producer(exchange=Exchange("nameko-rpc", type="topic"), auto_declare=False).publish(
                body, routing_key=routing_key, reply_to="me", correlation_id="1", **properties
            )
            return eventually(replies.get, 10).payload["error"]

    return ask


def parked(count=1):
    def enough():
        with Connection(config["AMQP_URI"]) as connection:
            channel = connection.channel()
            queue = Queue("rpc-victim.dead", channel=channel, no_declare=True)
            return queue.queue_declare(passive=True).message_count >= count and [
                queue.get() for _ in range(count)
            ]

    return eventually(enough, 15)


@pytest.mark.parametrize("properties", UNREADABLE, ids=lambda p: str(p["body"][:8]))
def test_undecodable_call_is_answered_with_an_error(victim, answer_to, properties):
    error = answer_to("victim.echo", **properties)
    assert error["exc_type"] == "MalformedRequest"
    assert not victim._died.ready()


@pytest.mark.parametrize(("routing_key", "body"), REJECTED, ids=str)
def test_call_that_fits_no_method_is_answered_with_an_error(victim, answer_to, routing_key, body):
    error = answer_to(routing_key, body, serializer="json")
    assert error["exc_type"] in ("MalformedRequest", "IncorrectSignature", "MethodNotFound")


def test_invalid_correlation_id_leaves_the_service_working(victim, call):
    publish_raw(
        "victim.echo",
        body=b'{"args": [], "kwargs": {"value": 1}}',
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id="\ud800",
        reply_to="somewhere",
    )
    assert call(value=7) == 7
    assert not victim._died.ready()


def test_rejected_call_without_reply_address_is_parked_with_its_reason(victim, call):
    for properties in UNREADABLE:
        publish_raw("victim.echo", **properties)
    for routing_key, body in REJECTED:
        publish("nameko-rpc", routing_key, body)
    reasons = [message.headers["x-reason"] for message in parked(len(UNREADABLE) + len(REJECTED))]
    assert all(reasons)
    assert call(value=7) == 7


def test_call_that_kills_its_process_is_parked_after_max_crashes(container_factory, monkeypatch):
    """A kill closes the connection with the call unanswered, as a dying process does."""
    begun = []

    def hang(self, value):
        begun.append(value)
        eventlet.sleep(60)

    monkeypatch.setattr(Victim, "hang", rpc(hang), raising=False)
    victim = container_factory(Victim)
    victim.start()
    publish("nameko-rpc", "victim.hang", {"args": [1], "kwargs": {}}, reply_to="nobody")
    for life in range(1, MAX_CRASHES + 1):
        eventually(lambda life=life: len(begun) >= life, what=f"life {life}")
        victim.kill()
        victim = container_factory(Victim)
        victim.start()
    (message,) = parked()
    assert f"{MAX_CRASHES} processes died" in message.headers["x-reason"]
    assert message.headers["x-handler"] == "victim.hang"


def test_container_killed_during_its_start_does_not_hang():
    class Doomed(Container):
        def spawn_managed_thread(self, fn, identifier=None):
            def fail():
                raise RuntimeError("poison")

            return super().spawn_managed_thread(fail, identifier)

    container = Doomed(Victim)
    with eventlet.Timeout(10), pytest.raises(RuntimeError, match="poison"):
        container.start()


def test_service_waits_for_an_unreachable_broker(container_factory):
    with config.patch({"AMQP_URI": f"pyamqp://guest:guest@127.0.0.1:{free_port()}//"}):
        container = container_factory(Victim)
        starting = eventlet.spawn(container.start)
        eventlet.sleep(0.5)
        assert not starting.dead
        with eventlet.Timeout(10):
            container.stop()  # SIGTERM meanwhile: it leaves, and leaves nothing undone
            starting.wait()
            container.wait()
