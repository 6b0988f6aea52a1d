"""Bundles: events of one commit share a message, and each is handled and settled alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import eventlet
import pytest
from kombu import Connection, Exchange, Queue
from nameko import config
from nameko.events import event_handler as stock_event_handler
from nameko.standalone.events import event_dispatcher

from nameko_mesh.events import batch_handler, event_handler, handler
from nameko_mesh.outbox import OutboxRelay
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import Database
from tests.integration.mesh.happenings import Awaited, Happened, publish, unsent
from tests.waiting import eventually

QUEUE = "evt-source-happened--one_by_one.on_happened"


class Source:
    name = "source"
    store = Database(OutboxStore)
    relay = OutboxRelay()


class OneByOne:
    name = "one_by_one"
    heard: list[int] = []
    refused: set[int] = set()
    hanging: set[int] = set()

    @event_handler("source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        number = event["data"]["number"]
        self.heard.append(number)
        if number in self.refused:
            raise RuntimeError("not this one")
        if number in self.hanging:
            eventlet.sleep(60)


class Together:
    name = "together"
    lists: list[list[int]] = []

    @batch_handler("source", "happened")
    def on_happened(self, events: list[dict[str, Any]]) -> None:
        self.lists.append([event["data"]["number"] for event in events])


class Stock:
    name = "stock"
    heard: list[int] = []

    @stock_event_handler("source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        self.heard.append(event["data"]["number"])


@pytest.fixture(autouse=True)
def _forget(monkeypatch: Any) -> None:
    for kept in (OneByOne.heard, OneByOne.refused, OneByOne.hanging, Together.lists, Stock.heard):
        kept.clear()  # type: ignore[attr-defined]
    monkeypatch.setattr(handler, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(handler, "MAX_PAUSE_SECONDS", 0.1)


@pytest.fixture
def start(container_factory: Any) -> Any:
    def start_services(*services: type) -> list[Any]:
        containers = [container_factory(service) for service in services]
        for container in containers:
            container.start()
        return containers

    return start_services


def some(count: int) -> list[Happened]:
    return [Happened(thing=f"t{number}", number=number) for number in range(count)]


def test_bundle_is_one_message_for_the_mesh_and_many_for_stock(outbox_store: Any, start: Any) -> None:
    start(Together, Stock)
    publish(outbox_store, *some(30))
    start(Source)
    eventually(lambda: len(Stock.heard) == 30)
    eventually(lambda: unsent(outbox_store) == 0)
    assert Stock.heard == list(range(30))
    assert Together.lists == [list(range(30))]


def test_events_of_a_bundle_are_handled_one_by_one_in_order(outbox_store: Any, start: Any) -> None:
    start(OneByOne)
    publish(outbox_store, *some(30))
    start(Source)
    eventually(lambda: len(OneByOne.heard) == 30)
    assert OneByOne.heard == list(range(30))


def test_relay_sends_no_single_events_while_only_the_mesh_listens(outbox_store: Any, start: Any) -> None:
    start(Together)
    publish(outbox_store, *some(30))
    with Connection(config["AMQP_URI"]) as connection, connection.channel() as channel:
        had = Exchange("source.events.had", type="fanout", durable=True)
        witness = Queue("witness", had, channel=channel, exclusive=True)
        witness.declare()
        start(Source)
        eventually(lambda: unsent(outbox_store) == 0)
        # The witness listens to single events, so the relay sends all of them, each with its mark.
        heard = [witness.get(no_ack=True) for _ in range(31)]
    assert [message.payload["data"]["number"] for message in heard[:-1]] == list(range(30))
    assert heard[-1] is None
    eventually(lambda: Together.lists == [list(range(30))])


def test_event_of_a_stock_dispatcher_reaches_handlers_of_the_mesh(start: Any) -> None:
    start(OneByOne, Together)
    event_dispatcher()("source", "happened", {"data": {"number": 7}})
    eventually(lambda: OneByOne.heard == [7] and Together.lists == [[7]])


def test_awaited_bundle_for_a_stock_handler_alone_is_sent(outbox_store: Any, start: Any) -> None:
    with Connection(config["AMQP_URI"]) as connection, connection.channel() as channel:
        plain = Exchange("source.events", type="topic", durable=True)
        queue = Queue("somebody", plain, "awaited", channel=channel, exclusive=True)
        queue.declare()
        publish(outbox_store, *(Awaited(thing=f"t{number}", number=number) for number in range(3)))
        start(Source)
        eventually(lambda: unsent(outbox_store) == 0)
        heard = [queue.get(no_ack=True).payload["data"]["number"] for _ in range(3)]
    assert heard == [0, 1, 2]


def test_failing_event_of_a_bundle_is_retried_without_the_others(
    outbox_store: Any, start: Any, queue_of: Any
) -> None:
    OneByOne.refused.add(3)
    start(OneByOne)
    publish(outbox_store, *some(6))
    start(Source)
    with Connection(config["AMQP_URI"]) as connection:
        parked = eventually(Queue(f"{QUEUE}.dead", channel=connection.channel()).get)
    assert parked.payload["data"]["number"] == 3
    assert Counter(OneByOne.heard)[3] == handler.MAX_ATTEMPTS
    others = Counter(number for number in OneByOne.heard if number != 3)
    assert others == dict.fromkeys((0, 1, 2, 4, 5), 1)


def test_bundle_that_kills_the_process_is_requeued_event_by_event(outbox_store: Any, start: Any) -> None:
    """The fatal event, which hangs until the kill, is redelivered alone from then on."""
    OneByOne.hanging.add(0)
    for life in range(1, handler.MAX_BUNDLE_DELIVERIES + 1):
        (container,) = start(OneByOne)
        if life == 1:
            publish(outbox_store, *some(5))
            start(Source)
        eventually(lambda life=life: OneByOne.heard == [0] * life, what=f"life {life}")
        container.kill()
    start(OneByOne)
    eventually(lambda: sorted(OneByOne.heard) == [*[0] * (handler.MAX_BUNDLE_DELIVERIES + 1), 1, 2, 3, 4])


def test_queue_of_an_older_version_gets_each_event_once(outbox_store: Any, start: Any) -> None:
    """The old queue is bound to the plain exchange, which gets the same events while somebody listens."""
    start(Stock)
    (older,) = start(OneByOne)
    older.stop()
    with Connection(config["AMQP_URI"]) as connection, connection.channel() as channel:
        channel.queue_bind(QUEUE, "source.events", "happened")
    start(OneByOne)
    publish(outbox_store, *some(5))
    start(Source)
    eventually(lambda: len(Stock.heard) == 5 and unsent(outbox_store) == 0)
    publish(outbox_store, Happened(thing="last", number=5))
    eventually(lambda: 5 in OneByOne.heard)
    assert OneByOne.heard == list(range(6))


@pytest.mark.parametrize("body", [[], [{"data": {"number": 1}}, 7], [{"data": {"number": 1}}] * 101])
def test_list_that_no_relay_sends_is_parked(start: Any, body: Any) -> None:
    start(OneByOne)
    with Connection(config["AMQP_URI"]) as connection, connection.channel() as channel:
        connection.Producer(channel).publish(body, routing_key=QUEUE, serializer="json")
        parked = eventually(Queue(f"{QUEUE}.dead", channel=channel).get)
    assert parked.payload == body
    assert OneByOne.heard == []
