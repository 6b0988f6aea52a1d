"""A batch leaves at once, and what became of each message is known."""

from __future__ import annotations

import pytest
from kombu import Connection, Exchange, Queue
from nameko import config

from mycelium.servers import free_port
from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, Fate, Parcel
from nameko_mesh.errors import Unavailable

NEWS = Exchange("source.events", type="topic", durable=True)


@pytest.fixture
def bound():
    """Two queues: one for `taken`, and one for `full`, with room for two."""
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


def parcels(*kinds, mandatory=True):
    return [
        Parcel(f"{kind}-{number}", NEWS.name, kind, b'{"n": %d}' % number, mandatory)
        for number, kind in enumerate(kinds)
    ]


def test_each_has_a_fate_and_the_order_is_kept(bound, publisher):
    fates = publisher.publish(parcels("taken", "nobody", "taken", "nobody"), 5)
    assert fates == [Fate.KEPT, Fate.UNROUTABLE, Fate.KEPT, Fate.UNROUTABLE]
    first, second = bound.get(), bound.get()
    assert (first.payload, second.payload) == ({"n": 0}, {"n": 2})
    assert first.properties["message_id"] == "taken-0"
    assert first.properties["delivery_mode"] == 2


def test_what_nobody_has_to_take_is_kept_by_definition(bound, publisher):
    assert publisher.publish(parcels("nobody", mandatory=False), 5) == [Fate.KEPT]


def test_what_the_broker_can_not_keep_is_told(bound, publisher):
    fates = publisher.publish(parcels("full", "full", "full", "taken"), 5)
    assert fates == [Fate.KEPT, Fate.KEPT, Fate.REFUSED, Fate.KEPT]


def test_one_batch_after_the_other(bound, publisher):
    for _ in range(3):
        assert publisher.publish(parcels("taken", "nobody"), 5) == [Fate.KEPT, Fate.UNROUTABLE]
    assert publisher.publish(parcels(*["taken"] * 500), 5) == [Fate.KEPT] * 500
    assert publisher.publish([], 5) == []


def test_a_broker_that_is_away_is_unavailable_and_can_come_back(bound, publisher):
    away = f"pyamqp://guest:guest@127.0.0.1:{free_port()}//"
    with config.patch({"AMQP_URI": away}), pytest.raises(Unavailable):
        publisher.publish(parcels("taken"), 5)
    assert publisher.publish(parcels("taken"), 5) == [Fate.KEPT]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(bound, publisher):
    publisher.publish(parcels("taken"), 5)
    publisher._channel.connection.transport.sock.close()
    with pytest.raises(Unavailable):
        publisher.publish(parcels("taken"), 5)
    assert publisher.publish(parcels("taken"), 5) == [Fate.KEPT]


def test_time_runs_out(bound, publisher):
    with pytest.raises(Unavailable, match="does not confirm"):
        publisher.publish(parcels(*["taken"] * 1000), 0.001)
    assert publisher.publish(parcels("taken"), 5) == [Fate.KEPT]
