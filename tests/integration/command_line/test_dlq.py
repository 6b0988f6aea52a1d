"""`mycelium dlq` on a real broker: parked messages are shown, replayed and dropped."""

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


def test_queue_names_cover_every_handler_and_no_broadcast():
    assert NAME in queue_names()
    assert "evt-orders-order_cancelled--products.on_order_cancelled" in queue_names()
    assert "rpc-products" in queue_names()
    assert "rpc-notifications" not in queue_names()
    assert not any("stock_changed" in name for name in queue_names())  # a broadcast is never parked


def test_list_and_show_leave_messages_parked(channel, command):
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


def test_show_explains_a_message_that_the_broker_parked(channel, command):
    park(channel, 1, headers={"x-death": [{"reason": "delivery_limit", "queue": NAME}]})
    (letter,) = json.loads(command("show", NAME, "--json").stdout)
    assert letter["reason"] == "the process died of it (delivery_limit)"
    assert letter["handler"] == "notifications.on_order_confirmed"


def test_replay_delivers_the_original_message_to_its_handler(channel, command):
    park(channel, 1, 2)
    assert command("replay", NAME).stdout == "2 replayed\n"
    assert waiting(channel, f"{NAME}.dead") == 0
    message = Queue(NAME, channel=channel, no_declare=True).get()
    assert message.payload == {"number": 1}
    assert message.headers == {"nameko.call_id_stack": ["orders.place_order.1"]}


def test_replay_sends_a_call_to_its_method(rabbitmq_node, command):
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


def test_drop_needs_a_confirmation(channel, command):
    park(channel, 1)
    assert command("drop", NAME, input="n\n").exit_code == 1
    assert waiting(channel, f"{NAME}.dead") == 1
    assert command("drop", NAME, "--yes").stdout == "1 dropped\n"
    assert waiting(channel, f"{NAME}.dead") == 0


def test_show_refuses_an_unknown_queue(command):
    done = command("show", "evt-nobody")
    assert done.exit_code == 1
    assert "no service has a queue" in done.stderr


def test_list_without_a_broker_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MYCELIUM_HOME", str(tmp_path))
    monkeypatch.delenv("AMQP_URI", raising=False)
    done = CliRunner().invoke(app, ["dlq", "list"])
    assert done.exit_code == 1
    assert "AMQP_URI" in done.stderr
