"""The grouping of events into rows and messages, the waves of messages, and their publishing."""

from __future__ import annotations

import orjson
import pytest

from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.events.schema import MAX_EVENTS_PER_MESSAGE
from nameko_mesh.outbox.messages import messages_of
from nameko_mesh.outbox.publisher import EventPublisher
from nameko_mesh.outbox.rows import OutboxRow, group
from nameko_mesh.outbox.send_plan import plan_wave


def events(*named):
    """Envelopes, each named by its type and its aggregate."""
    return [{"type": kind, "aggregate_id": thing} for kind, thing in named]


def bundled(events):
    return group(events, key=lambda event: event["type"], aggregate_ids=lambda event: [event["aggregate_id"]])


def shape(bundles):
    return [" ".join(event["type"] + event["aggregate_id"] for event in bundle) for bundle in bundles]


def test_events_of_one_type_share_a_row():
    assert shape(bundled(events("a1", "b2", "a3", "b4"))) == ["a1 a3", "b2 b4"]


def test_rows_keep_the_order_of_each_aggregate():
    assert shape(bundled(events("a1", "b1", "a1", "a2"))) == ["a1", "b1", "a1 a2"]
    assert shape(bundled(events("a1", "a1", "b1", "b2"))) == ["a1 a1", "b1 b2"]


def test_row_holds_a_limited_number_of_events():
    many = events(*[("a", str(number)) for number in range(2 * MAX_EVENTS_PER_MESSAGE + 1)])
    assert [len(bundle) for bundle in bundled(many)] == [MAX_EVENTS_PER_MESSAGE, MAX_EVENTS_PER_MESSAGE, 1]


def test_no_events_make_no_row():
    assert bundled([]) == []


def rows(*named):
    """Rows, each named by its type (in capitals if awaited) and its aggregates."""
    return [
        _row(number, kind, [{"event_id": f"{number}{thing}", "thing": thing} for thing in things])
        for number, (kind, *things) in enumerate(named)
    ]


def _row(number, kind, events):
    things = frozenset(event["thing"] for event in events)
    whole, first = orjson.dumps(events), orjson.dumps(events[0])
    return OutboxRow(number, kind, kind.isupper(), things, len(events), whole, events[0]["event_id"], first)


def messages(*named):
    return [[row.seq for row in one.rows] for one in messages_of(rows(*named))]


def test_rows_of_one_type_share_a_message():
    assert messages("a12", "b34", "a56", "b78") == [[0, 2], [1, 3]]


def test_rows_of_one_aggregate_share_a_message():
    assert messages("a12", "a23", "a45") == [[0, 1, 2]]


def test_messages_keep_the_order_of_each_aggregate():
    assert messages("a12", "b23", "a34", "a56") == [[0], [1], [2, 3]]


def test_event_committed_alone_travels_alone():
    assert messages("a12", "a3", "a45") == [[0, 2], [1]]


def test_message_holds_a_limited_number_of_events():
    half = [f"{number}-" for number in range(MAX_EVENTS_PER_MESSAGE // 2 + 1)]
    other = [f"{number}+" for number in range(MAX_EVENTS_PER_MESSAGE // 2 + 1)]
    assert messages(("a", *half), ("a", *other)) == [[0], [1]]


def waves(*named):
    """The numbers of the rows of each wave."""
    found, left = [], messages_of(rows(*named))
    while left:
        wave, left = plan_wave(left)
        found.append([row.seq for one in wave for row in one.rows])
    return found


def test_single_events_of_one_aggregate_and_type_share_a_wave():
    assert waves("a1", "a1", "a12", "a3") == [[0, 1, 2, 3]]
    assert waves("a1", "b1", "b2", "a1") == [[0, 2], [1], [3]]


def test_message_waits_behind_a_message_that_waits():
    assert waves("a12", "b23", "b34", "b4") == [[0], [1, 2], [3]]


def test_message_of_several_events_holds_back_its_aggregates():
    hundred = [f"{number}-" for number in range(MAX_EVENTS_PER_MESSAGE)]
    assert waves(("a", *hundred), "a12", ("a", "0-", "x")) == [[0], [1, 2]]


def test_wave_holds_a_limited_number_of_events():
    many = [("a", *(f"{name}{number}" for number in range(MAX_EVENTS_PER_MESSAGE))) for name in "abcdefgh"]
    assert waves(*many) == [[0, 1, 2, 3, 4], [5, 6, 7]]


def test_awaited_event_holds_back_its_aggregate():
    assert waves("A1", "A1", "A2") == [[0, 2], [1]]


class Broker:
    """Stands in for ConfirmedPublisher. A queue takes single events of the types `listened`; the broker
    rejects the messages `refused`."""

    def __init__(self, *listened, refused=()):
        self.listened, self.refused = listened, refused
        self.sent = []

    def publish(self, parcels, seconds):
        self.sent += [(one.exchange.removeprefix("source.events"), one.message_id) for one in parcels]
        return [self._fate(one) for one in parcels]

    def _fate(self, one):
        if one.message_id in self.refused:
            return PublishResult.REJECTED
        is_taken = one.exchange.endswith("bundles") or not one.mandatory or one.routing_key in self.listened
        return PublishResult.CONFIRMED if is_taken else PublishResult.UNROUTABLE


@pytest.fixture
def published():
    def publish(broker, *named):
        publisher = EventPublisher("source")
        publisher._publisher = broker
        return [fate.name for fate in publisher.publish(messages_of(rows(*named)))]

    return publish


def test_without_listeners_one_single_event_of_each_type_leaves(published):
    broker = Broker()
    assert published(broker, "a1", "a2", "b34", "b56") == ["CONFIRMED", "CONFIRMED", "CONFIRMED"]
    wholes = [(".bundles", "01+"), (".bundles", "12+"), (".bundles", "23+")]
    assert broker.sent == [*wholes, ("", "01"), ("", "23")]


def test_listener_gets_each_single_event_once_in_order(published):
    broker = Broker("b")
    published(broker, "a1", "b2", "b34", "b56", "b2")
    singles = [message_id for exchange, message_id in broker.sent if not exchange]
    assert singles == ["01", "12", "23", "24", "35", "36", "42"]


def test_type_whose_first_event_was_rejected_is_sent_again(published):
    assert published(Broker(refused=["01"]), "a1", "b2", "a3") == ["REJECTED", "CONFIRMED", "REJECTED"]


def test_message_with_a_rejected_single_event_is_sent_again(published):
    assert published(Broker("a", refused=["22"]), "a1", "a3", "a2") == ["CONFIRMED", "CONFIRMED", "REJECTED"]


def test_awaited_event_needs_one_of_the_two_ways(published):
    broker = Broker("A")
    broker._fate = lambda one: (
        PublishResult.CONFIRMED if one.exchange == "source.events" else PublishResult.UNROUTABLE
    )
    assert published(broker, "A1") == ["CONFIRMED"]
    assert published(broker, "A1", "A2") == ["CONFIRMED", "CONFIRMED"]
    broker._fate = lambda one: PublishResult.UNROUTABLE
    assert published(broker, "A1") == ["UNROUTABLE"]


def test_awaited_event_without_a_queue_is_unroutable(published):
    broker = Broker("A")
    broker._fate = lambda one: PublishResult.CONFIRMED if one.message_id == "01" else PublishResult.UNROUTABLE
    assert published(broker, "A1", "A2") == ["CONFIRMED", "UNROUTABLE"]
