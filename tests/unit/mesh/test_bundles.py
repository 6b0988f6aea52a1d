"""Which events travel together."""

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
    """Each is named after its type and its aggregate."""
    return [{"type": kind, "aggregate_id": thing} for kind, thing in named]


def bundled(events):
    return group(events, key=lambda event: event["type"], aggregate_ids=lambda event: [event["aggregate_id"]])


def shape(bundles):
    return [" ".join(event["type"] + event["aggregate_id"] for event in bundle) for bundle in bundles]


def test_events_of_one_type_make_one_bundle():
    assert shape(bundled(events("a1", "b2", "a3", "b4"))) == ["a1 a3", "b2 b4"]


def test_the_order_of_one_aggregate_is_kept():
    assert shape(bundled(events("a1", "b1", "a1", "a2"))) == ["a1", "b1", "a1 a2"]
    assert shape(bundled(events("a1", "a1", "b1", "b2"))) == ["a1 a1", "b1 b2"]


def test_a_bundle_has_its_bound():
    many = events(*[("a", str(number)) for number in range(2 * MAX_EVENTS_PER_MESSAGE + 1)])
    assert [len(bundle) for bundle in bundled(many)] == [MAX_EVENTS_PER_MESSAGE, MAX_EVENTS_PER_MESSAGE, 1]


def test_nothing_makes_no_bundle():
    assert bundled([]) == []


def rows(*named):
    """Each is named after its type, in capitals if it is awaited, and its aggregates."""
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


def test_two_rows_of_one_aggregate_share_one_too():
    assert messages("a12", "a23", "a45") == [[0, 1, 2]]


def test_no_message_has_what_another_that_comes_later_must_go_before():
    assert messages("a12", "b23", "a34", "a56") == [[0], [1], [2, 3]]


def test_an_event_that_was_committed_alone_travels_alone():
    assert messages("a12", "a3", "a45") == [[0, 2], [1]]


def test_a_message_of_several_rows_has_the_bound_of_a_bundle():
    half = [f"{number}-" for number in range(MAX_EVENTS_PER_MESSAGE // 2 + 1)]
    other = [f"{number}+" for number in range(MAX_EVENTS_PER_MESSAGE // 2 + 1)]
    assert messages(("a", *half), ("a", *other)) == [[0], [1]]


def waves(*named):
    """The types and numbers of rows that leave together; a type in capitals is awaited."""
    found, left = [], messages_of(rows(*named))
    while left:
        wave, left = plan_wave(left)
        found.append([row.seq for one in wave for row in one.rows])
    return found


def test_events_of_one_aggregate_leave_together_if_they_are_of_one_type():
    assert waves("a1", "a1", "a12", "a3") == [[0, 1, 2, 3]]
    assert waves("a1", "b1", "b2", "a1") == [[0, 2], [1], [3]]


def test_what_waits_for_another_is_waited_for():
    assert waves("a12", "b23", "b34", "b4") == [[0], [1, 2], [3]]


def test_nothing_of_its_aggregates_leaves_with_a_message_that_may_come_back():
    hundred = [f"{number}-" for number in range(MAX_EVENTS_PER_MESSAGE)]
    assert waves(("a", *hundred), "a12", ("a", "0-", "x")) == [[0], [1, 2]]


def test_so_many_leave_together_as_are_published_in_time():
    many = [("a", *(f"{name}{number}" for number in range(MAX_EVENTS_PER_MESSAGE))) for name in "abcdefgh"]
    assert waves(*many) == [[0, 1, 2, 3, 4], [5, 6, 7]]


def test_nothing_leaves_with_an_awaited_event_of_its_aggregate():
    assert waves("A1", "A1", "A2") == [[0, 2], [1]]


class Broker:
    """In the place of ConfirmedPublisher. `listened` are the types that somebody takes as single events,
    `refused` the messages that are not kept."""

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


def test_where_nobody_takes_single_events_one_of_each_type_asks(published):
    broker = Broker()
    assert published(broker, "a1", "a2", "b34", "b56") == ["CONFIRMED", "CONFIRMED", "CONFIRMED"]
    wholes = [(".bundles", "01+"), (".bundles", "12+"), (".bundles", "23+")]
    assert broker.sent == [*wholes, ("", "01"), ("", "23")]


def test_who_takes_single_events_gets_each_once_in_their_order(published):
    broker = Broker("b")
    published(broker, "a1", "b2", "b34", "b56", "b2")
    singles = [message_id for exchange, message_id in broker.sent if not exchange]
    assert singles == ["01", "12", "23", "24", "35", "36", "42"]


def test_a_type_whose_question_was_refused_is_sent_again(published):
    assert published(Broker(refused=["01"]), "a1", "b2", "a3") == ["REJECTED", "CONFIRMED", "REJECTED"]


def test_a_message_of_which_a_single_event_was_refused_is_sent_again(published):
    assert published(Broker("a", refused=["22"]), "a1", "a3", "a2") == ["CONFIRMED", "CONFIRMED", "REJECTED"]


def test_an_awaited_event_that_single_handlers_alone_take_is_kept(published):
    broker = Broker("A")
    broker._fate = lambda one: (
        PublishResult.CONFIRMED if one.exchange == "source.events" else PublishResult.UNROUTABLE
    )
    assert published(broker, "A1") == ["CONFIRMED"]
    assert published(broker, "A1", "A2") == ["CONFIRMED", "CONFIRMED"]
    broker._fate = lambda one: PublishResult.UNROUTABLE
    assert published(broker, "A1") == ["UNROUTABLE"]


def test_an_awaited_event_whose_handler_left_after_the_question_is_kept_here(published):
    broker = Broker("A")
    broker._fate = lambda one: PublishResult.CONFIRMED if one.message_id == "01" else PublishResult.UNROUTABLE
    assert published(broker, "A1", "A2") == ["CONFIRMED", "UNROUTABLE"]
