"""The outbox relay and the event handlers: nothing lost, in order, once the broker can take it."""

from __future__ import annotations

import time
from datetime import timedelta

import eventlet
import pytest
import sqlalchemy as sa
from kombu import Connection, Exchange, Producer, Queue
from nameko import config
from nameko.events import event_handler as stock_event_handler
from nameko.testing.services import dummy

from nameko_mesh.errors import Unavailable
from nameko_mesh.events import batch_handler, event_handler, handler
from nameko_mesh.outbox import Handoff, OutboxRelay, outbox
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import Database
from tests.integration.mesh.happenings import Awaited, Happened, publish, unsent
from tests.waiting import eventually


class Source:
    name = "source"
    store = Database(OutboxStore)
    relay = OutboxRelay()

    @dummy
    def nothing(self):
        pass


class Listener:
    name = "listener"
    heard: list[dict] = []
    begun: list[dict] = []
    hanging = False
    failures = 0
    failure: Exception = RuntimeError("not now")

    @event_handler("source", "happened")
    def on_happened(self, event):
        Listener.begun.append(event)
        if Listener.hanging:
            eventlet.sleep(60)
        if Listener.failures:
            Listener.failures -= 1
            raise Listener.failure
        self.heard.append(event)

    @event_handler("source", "awaited", for_ever=True)
    def on_awaited(self, event):
        self.on_happened(event)


class Gatherer:
    """Takes lists of events. The first call waits for `go_on`."""

    name = "gatherer"
    lists: list[list[int]] = []
    poison: set[int] = set()
    go_on = eventlet.Event()

    @batch_handler("source", "happened")
    def on_happened(self, events):
        numbers = [event["data"]["number"] for event in events]
        Gatherer.lists.append(numbers)
        if len(Gatherer.lists) == 1:
            Gatherer.go_on.wait()
        if Gatherer.poison & set(numbers):
            raise RuntimeError("not this one")


class StockListener:
    name = "stock_listener"
    heard: list[dict] = []

    @stock_event_handler("source", "happened")
    def on_happened(self, event):
        self.heard.append(event)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    Listener.heard.clear()
    StockListener.heard.clear()
    Listener.begun.clear()
    Gatherer.lists.clear()
    Gatherer.poison.clear()
    Gatherer.go_on = eventlet.Event()
    Listener.hanging = False
    Listener.failures = 0
    Listener.failure = RuntimeError("not now")
    monkeypatch.setattr(handler, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(handler, "MAX_PAUSE_SECONDS", 0.1)


@pytest.fixture
def start(container_factory):
    def start_service(service):
        container = container_factory(service)
        container.start()
        return container

    return start_service


def numbers():
    return [event["data"]["number"] for event in Listener.heard]


def test_events_arrive_in_the_order_of_their_commits(outbox_store, start):
    start(Listener)
    for number in range(30):
        publish(outbox_store, Happened(thing="a", number=number))
    start(Source)
    eventually(lambda: len(Listener.heard) == 30)
    assert numbers() == list(range(30))
    eventually(lambda: unsent(outbox_store) == 0)


def test_a_commit_wakes_the_relay(outbox_store, start):
    start(Listener)
    source = start(Source)
    (relay,) = [one for one in source.extensions if isinstance(one, OutboxRelay)]
    publish(OutboxStore(relay.shared.engine, relay.outbox.handoff), Happened(thing="a", number=1))
    eventually(lambda: numbers() == [1])


def test_an_envelope_says_what_when_and_of_whom(outbox_store, start):
    start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    (event,) = eventually(lambda: list(Listener.heard))
    assert event | {"event_id": "?", "occurred_at": "?"} == {
        "event_id": "?",
        "type": "happened",
        "version": 1,
        "occurred_at": "?",
        "aggregate_id": "a",
        "aggregate_version": 1,
        "data": {"thing": "a", "number": 1},
    }


def test_event_is_handled_after_the_deadline_of_its_publisher(start):
    """A stock dispatcher sends the deadline of the call that publishes."""
    start(Listener)
    with Connection(config["AMQP_URI"]) as connection:
        producer = Producer(connection.channel(), Exchange("source.events"), auto_declare=False)
        late = {"nameko.deadline": time.time() - 60}
        producer.publish({"data": {"number": 1}}, routing_key="happened", headers=late, serializer="json")
    eventually(lambda: numbers() == [1])


def test_an_awaited_event_waits_for_its_consumer(outbox_store, start):
    publish(outbox_store, Awaited(thing="a", number=1), Happened(thing="a", number=2))
    publish(outbox_store, Happened(thing="b", number=3))
    start(Source)
    eventually(lambda: unsent(outbox_store) == 2)  # b has left; a waits, its second event behind its first
    start(Listener)
    eventually(lambda: unsent(outbox_store) == 0)
    eventually(lambda: set(numbers()) >= {1, 2})


def test_event_is_retried_when_its_handler_fails(outbox_store, start):
    Listener.failures = 3
    start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: numbers() == [1])


HAPPENED = "evt-source-happened--listener.on_happened"


@pytest.fixture
def parked():
    """Return the next message of the dead-letter queue."""

    def take():
        with Connection(config["AMQP_URI"]) as connection:
            queue = Queue(f"{HAPPENED}.dead", channel=connection.channel(), no_declare=True)
            return eventually(queue.get, 15)

    return take


def test_always_failing_event_is_parked_with_its_reason_and_blocks_no_other(outbox_store, start, parked):
    Listener.failures = handler.MAX_ATTEMPTS
    start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    message = parked()
    assert message.payload["data"]["number"] == 1
    assert message.headers["x-reason"] == "RuntimeError: not now"
    assert message.headers["x-handler"] == "listener.on_happened"
    assert message.headers["x-parked-at"]
    publish(outbox_store, Happened(thing="b", number=2))
    eventually(lambda: numbers() == [2])


def test_for_ever_retries_beyond_the_last_attempt(outbox_store, start):
    Listener.failures = handler.MAX_ATTEMPTS * 2
    start(Listener)
    publish(outbox_store, Awaited(thing="a", number=1))
    start(Source)
    eventually(lambda: numbers() == [1])


def test_failing_event_keeps_its_attempts_when_the_process_dies(outbox_store, start, parked):
    Listener.failures = 100
    listener = start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: len(Listener.begun) >= 2)
    listener.kill()
    start(Listener)
    assert parked().headers["x-attempts"] == handler.MAX_ATTEMPTS - 1
    # A process that dies between the retry and the ack leaves two messages, and both keep counting.
    assert len(Listener.begun) <= 2 * handler.MAX_ATTEMPTS


def test_undecodable_event_is_parked_byte_for_byte(start, parked):
    listener = start(Listener)
    with Connection(config["AMQP_URI"]) as connection:
        connection.Producer().publish(
            b"{not json", routing_key=HAPPENED, content_type="application/json", content_encoding="utf-8"
        )
    message = parked()
    assert (message.body, message.content_type) == ("{not json", "application/json")
    assert message.headers["x-reason"].startswith("the body is undecodable")
    assert not listener._died.ready()


def test_event_is_retried_without_limit_while_something_is_unavailable(outbox_store, start):
    Listener.failure = Unavailable("the database is away")
    Listener.failures = handler.MAX_ATTEMPTS * 2
    start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: numbers() == [1])


def test_event_survives_any_number_of_restarts_while_the_database_is_down(outbox_store, start, monkeypatch):
    monkeypatch.setattr(handler, "MAX_DELIVERIES", 6)
    Listener.failure = Unavailable("the database is away")
    Listener.failures = 1_000
    start(Source)
    for round_ in range(8):
        begun = len(Listener.begun)
        listener = start(Listener)
        if round_ == 0:
            publish(outbox_store, Happened(thing="a", number=1))
        eventually(lambda begun=begun: len(Listener.begun) > begun)
        listener.stop()
    Listener.failures = 0
    start(Listener)
    eventually(lambda: numbers() == [1])


def test_waiting_event_is_requeued_when_the_service_stops(outbox_store, start, monkeypatch, queue_of):
    monkeypatch.setattr(handler, "back_off", lambda *_: 60.0)
    Listener.failure = Unavailable("the database is away")
    Listener.failures = 1
    listener = start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: Listener.failures == 0)
    listener.stop()
    start(Listener)
    eventually(lambda: numbers() == [1])


def test_event_that_kills_its_process_is_parked_by_the_broker(outbox_store, start, parked, monkeypatch):
    """A kill closes the connection with the message unsettled, as a dying process does."""
    monkeypatch.setattr(handler, "MAX_DELIVERIES", 3)
    Listener.hanging = True
    listener = start(Listener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    for life in range(1, handler.MAX_DELIVERIES + 1):
        listener = start(Listener) if life > 1 else listener
        eventually(lambda life=life: len(Listener.begun) >= life, what=f"life {life}")
        listener.kill()
    message = parked()
    assert message.headers["x-death"][0]["reason"] == "delivery_limit"
    assert message.payload["data"]["number"] == 1


def gather(outbox_store, start):
    """Publish events while the first is being handled."""
    start(Gatherer)
    for number in range(10):
        publish(outbox_store, Happened(thing=f"t{number}", number=number))
    start(Source)
    eventually(lambda: Gatherer.lists)
    eventually(lambda: unsent(outbox_store) == 0)
    eventlet.sleep(0.2)  # time for the events to reach the consumer, which has no sign of it
    Gatherer.go_on.send()


def test_events_that_arrive_during_a_call_are_handled_in_the_next(outbox_store, start):
    gather(outbox_store, start)
    eventually(lambda: sum(map(len, Gatherer.lists)) == 10)
    assert [number for numbers in Gatherer.lists for number in numbers] == list(range(10))
    assert len(Gatherer.lists) < 10


def test_events_of_a_failing_list_are_handled_one_by_one(outbox_store, start):
    Gatherer.poison.add(5)
    gather(outbox_store, start)
    with Connection(config["AMQP_URI"]) as connection:
        queue = Queue("evt-source-happened--gatherer.on_happened.dead", channel=connection.channel())
        message = eventually(lambda: queue.get(), 15)
    assert message.payload["data"]["number"] == 5
    handled = {numbers[0] for numbers in Gatherer.lists if len(numbers) == 1}
    assert handled >= set(range(1, 10))


def test_stock_handler_receives_events_too(outbox_store, start):
    start(StockListener)
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: [event["data"]["number"] for event in StockListener.heard] == [1])


def test_two_relays_send_each_event_once(outbox_store, start):
    start(Listener)
    for number in range(200):
        publish(outbox_store, Happened(thing=f"t{number % 7}", number=number))
    start(Source)
    start(Source)
    eventually(lambda: unsent(outbox_store) == 0)
    eventually(lambda: len(Listener.heard) >= 200)
    assert sorted(numbers()) == list(range(200))
    for thing in range(7):
        own = [event["data"]["number"] for event in Listener.heard if event["aggregate_id"] == f"t{thing}"]
        assert own == sorted(own)


def test_a_dead_relays_claims_are_taken_over(outbox_store, start):
    publish(outbox_store, Happened(thing="a", number=1))
    with outbox_store.transaction() as tx:
        assert len(tx.claim("somebody who died", 10)) == 1
        past = tx.now().replace(year=2000)
        tx.connection.execute(outbox.update().values(claimed_until=past))
    start(Listener)
    start(Source)
    eventually(lambda: numbers() == [1])


def test_a_later_event_waits_for_an_earlier_one_in_other_hands(outbox_store):
    publish(outbox_store, Happened(thing="x", number=0), Happened(thing="a", number=1))
    with outbox_store.transaction() as tx:
        assert len(tx.claim("one", 1)) == 1
    publish(outbox_store, Happened(thing="a", number=2), Happened(thing="y", number=3))
    publish(outbox_store, Happened(thing="b", number=4))
    with outbox_store.transaction() as tx:
        assert [row.aggregate_ids for row in tx.claim("other", 10)] == [{"b"}]


def test_pruning_deletes_old_sent_rows_and_keeps_unsent_rows(outbox_store):
    for number, thing in enumerate(("old", "new", "unsent")):
        publish(outbox_store, Happened(thing=thing, number=number))
    with outbox_store.transaction() as tx:
        old, new, _ = tx.claim("relay", 10)
        tx.mark_sent("relay", [new.seq])
        long_ago = tx.now() - timedelta(hours=2)
        tx.connection.execute(outbox.update().where(outbox.c.seq == old.seq).values(sent_at=long_ago))
        tx.prune(timedelta(hours=1), 10)
        left = list(tx.connection.scalars(sa.select(outbox.c.aggregate_ids).order_by(outbox.c.seq)))
    assert left == [["new"], ["unsent"]]


def test_message_that_is_no_event_leaves_the_handler_working(outbox_store, start):
    listener = start(Listener)
    with Connection(config["AMQP_URI"]) as connection:
        for body in ([], 7, "x", None):
            connection.Producer().publish(body, routing_key="evt-source-happened--listener.on_happened")
    publish(outbox_store, Happened(thing="a", number=1))
    start(Source)
    eventually(lambda: numbers() == [1])
    assert not listener._died.ready()


def test_a_bell_rung_before_the_wait_is_heard():
    bell = Handoff()
    bell.wake()
    bell.wait(5)
