"""ConfirmedPublisher against a real broker: one result for each message of a batch."""

from __future__ import annotations

import pytest
from kombu import Connection, Exchange, Queue
from nameko import config

from mycelium.servers import free_port
from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, OutgoingMessage, PublishResult
from nameko_mesh.errors import Unavailable

NEWS = Exchange("source.events", type="topic", durable=True)


@pytest.fixture
def bound():
    """Bind two queues: `taken`, and `full` with room for two messages. Return the first."""
    with Connection(config["AMQP_URI"]) as connection:
        channel = connection.channel()
        taken = Queue("taken", NEWS, "taken", channel=channel)
        room = {"x-max-length": 2, "x-overflow": "reject-publish"}
        for queue in (taken, Queue("full", NEWS, "full", channel=channel, queue_arguments=room)):
            queue.declare()
        yield taken


@pytest.fixture
def publisher():
    publisher = ConfirmedPublisher(NEWS)
    yield publisher
    publisher.close()


def messages(*kinds, mandatory=True):
    return [
        OutgoingMessage(f"{kind}-{number}", NEWS.name, kind, b'{"n": %d}' % number, mandatory)
        for number, kind in enumerate(kinds)
    ]


def test_results_come_in_the_order_of_the_messages(bound, publisher):
    results = publisher.publish(messages("taken", "nobody", "taken", "nobody"), 5)
    assert results == [
        PublishResult.CONFIRMED,
        PublishResult.UNROUTABLE,
        PublishResult.CONFIRMED,
        PublishResult.UNROUTABLE,
    ]
    first, second = bound.get(), bound.get()
    assert (first.payload, second.payload) == ({"n": 0}, {"n": 2})
    assert first.properties["message_id"] == "taken-0"
    assert first.properties["delivery_mode"] == 2


def test_unroutable_message_that_is_not_mandatory_is_confirmed(bound, publisher):
    assert publisher.publish(messages("nobody", mandatory=False), 5) == [PublishResult.CONFIRMED]


def test_message_for_a_full_queue_is_rejected(bound, publisher):
    results = publisher.publish(messages("full", "full", "full", "taken"), 5)
    assert results == [
        PublishResult.CONFIRMED,
        PublishResult.CONFIRMED,
        PublishResult.REJECTED,
        PublishResult.CONFIRMED,
    ]


def test_publisher_sends_many_batches_in_turn(bound, publisher):
    for _ in range(3):
        assert publisher.publish(messages("taken", "nobody"), 5) == [
            PublishResult.CONFIRMED,
            PublishResult.UNROUTABLE,
        ]
    assert publisher.publish(messages(*["taken"] * 500), 5) == [PublishResult.CONFIRMED] * 500
    assert publisher.publish([], 5) == []


def test_publisher_recovers_when_the_broker_comes_back(bound, publisher):
    away = f"pyamqp://guest:guest@127.0.0.1:{free_port()}//"
    with config.patch({"AMQP_URI": away}), pytest.raises(Unavailable):
        publisher.publish(messages("taken"), 5)
    assert publisher.publish(messages("taken"), 5) == [PublishResult.CONFIRMED]


def test_closed_connection_is_opened_again(bound, publisher):
    publisher.publish(messages("taken"), 5)
    publisher._channel.connection.transport.sock.close()
    with pytest.raises(Unavailable):
        publisher.publish(messages("taken"), 5)
    assert publisher.publish(messages("taken"), 5) == [PublishResult.CONFIRMED]


def test_missing_confirms_raise_unavailable_after_the_timeout(bound, publisher):
    with pytest.raises(Unavailable, match="does not confirm"):
        publisher.publish(messages(*["taken"] * 1000), 0.001)
    assert publisher.publish(messages("taken"), 5) == [PublishResult.CONFIRMED]
