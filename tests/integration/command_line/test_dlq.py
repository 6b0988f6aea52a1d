"""`mycelium dlq` on a real broker: what is parked can be seen, replayed and dropped."""

from __future__ import annotations

import json

import pytest
from kombu import Connection, Exchange, Producer, Queue
from typer.testing import CliRunner

from mycelium.cli.app import app
from mycelium.diagnostics.dead_letters import queue_names

NAME = "evt-orders-order_confirmed--notifications.on_order_confirmed"
HEADERS = {
    "nameko.call_id_stack": ["orders.place_order.1"],
    "x-reason": "KeyError: 'email'",
    "x-handler": "notifications.on_order_confirmed",
    "x-parked-at": "2026-01-02T12:00:00+00:00",
}


@pytest.fixture
def channel(rabbitmq_node):
    with Connection(rabbitmq_node.amqp_uri) as connection:
        channel = connection.channel()
        for name in (NAME, f"{NAME}.dead"):
            Queue(name, channel=channel, durable=True).declare()
        yield channel
        for name in (NAME, f"{NAME}.dead"):
            Queue(name, channel=channel).delete()


@pytest.fixture
def command(rabbitmq_node):
    def run(*arguments, **more):
        return CliRunner().invoke(app, ["dlq", *arguments], env={"AMQP_URI": rabbitmq_node.amqp_uri}, **more)

    return run


def park(channel, *numbers, headers=HEADERS):
    for number in numbers:
        Producer(channel).publish({"number": number}, routing_key=f"{NAME}.dead", headers=headers)


def counts(command):
    return next(row for row in json.loads(command("list", "--json").stdout) if row["queue"] == NAME)


def waiting(channel, name):
    return Queue(name, channel=channel, no_declare=True).queue_declare(passive=True).message_count


def test_every_handler_of_the_services_has_a_queue():
    assert NAME in queue_names()
    assert "evt-orders-order_cancelled--products.on_order_cancelled" in queue_names()
    assert "rpc-products" in queue_names()
    assert "rpc-notifications" not in queue_names()
    assert not any("stock_changed" in name for name in queue_names())  # a broadcast is never parked


def test_what_is_parked_is_counted_and_shown_and_stays(channel, command):
    park(channel, 1, 2)
    assert counts(command)["parked"] == 2
    (first,) = json.loads(command("show", NAME, "--limit", "1", "--json").stdout)
    assert first == {
        "message": {"number": 1},
        "reason": "KeyError: 'email'",
        "handler": "notifications.on_order_confirmed",
        "parked_at": "2026-01-02T12:00:00+00:00",
    }
    assert "KeyError: 'email'" in command("show", NAME).stdout
    assert NAME in command("list").stdout
    assert counts(command)["parked"] == 2


def test_what_the_broker_parked_says_so(channel, command):
    park(channel, 1, headers={"x-death": [{"reason": "delivery_limit", "queue": NAME}]})
    (one,) = json.loads(command("show", NAME, "--json").stdout)
    assert one["reason"] == "the process died of it (delivery_limit)"
    assert one["handler"] == "notifications.on_order_confirmed"


def test_what_is_replayed_comes_to_its_handler_as_it_was(channel, command):
    park(channel, 1, 2)
    assert command("replay", NAME).stdout == "2 replayed\n"
    assert waiting(channel, f"{NAME}.dead") == 0
    message = Queue(NAME, channel=channel, no_declare=True).get()
    assert message.payload == {"number": 1}
    assert message.headers == {"nameko.call_id_stack": ["orders.place_order.1"]}


def test_a_call_is_replayed_to_its_method(rabbitmq_node, command):
    headers = {**HEADERS, "x-handler": "orders.cancel_order"}
    with Connection(rabbitmq_node.amqp_uri) as connection:
        channel = connection.channel()
        exchange = Exchange("nameko-rpc", type="topic", durable=True)
        calls = Queue("rpc-orders", exchange, "orders.*", channel=channel, durable=True)
        dead = Queue("rpc-orders.dead", channel=channel, durable=True)
        for queue in (calls, dead):
            queue.declare()
        Producer(channel).publish({"args": [], "kwargs": {}}, routing_key=dead.name, headers=headers)
        assert command("replay", "rpc-orders").stdout == "1 replayed\n"
        assert calls.get().delivery_info["routing_key"] == "orders.cancel_order"
        for queue in (calls, dead):
            queue.delete()


def test_nothing_is_dropped_without_a_yes(channel, command):
    park(channel, 1)
    assert command("drop", NAME, input="n\n").exit_code == 1
    assert waiting(channel, f"{NAME}.dead") == 1
    assert command("drop", NAME, "--yes").stdout == "1 dropped\n"
    assert waiting(channel, f"{NAME}.dead") == 0


def test_an_unknown_queue_is_refused(command):
    done = command("show", "evt-nobody")
    assert done.exit_code == 1
    assert "no service has a queue" in done.stderr


def test_without_a_broker_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MYCELIUM_HOME", str(tmp_path))
    monkeypatch.delenv("AMQP_URI", raising=False)
    done = CliRunner().invoke(app, ["dlq", "list"])
    assert done.exit_code == 1
    assert "AMQP_URI" in done.stderr
