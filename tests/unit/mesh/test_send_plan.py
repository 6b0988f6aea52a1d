"""The order of each aggregate is kept, whatever the broker refuses: random rows and brokers."""

from __future__ import annotations

import random

import orjson
import pytest

from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.outbox import OutboxRelay
from nameko_mesh.outbox.publisher import EventPublisher
from nameko_mesh.outbox.rows import OutboxRow

TYPES = "abA"
"""Events of type A are awaited."""


class Broker:
    """Stands in for ConfirmedPublisher. Each exchange routes the given types; `refuses` decides on each
    message."""

    def __init__(self, single, whole, refuses=lambda: False):
        self.takes = {"source.events": single, "source.events.bundles": whole}
        self.taken = {way: [] for way in self.takes}
        self.refuses = refuses

    def publish(self, parcels, seconds):
        return [self._take(parcel) for parcel in parcels]

    def _take(self, parcel):
        if self.refuses():
            return PublishResult.REJECTED
        if parcel.routing_key not in self.takes[parcel.exchange]:
            return PublishResult.UNROUTABLE if parcel.mandatory else PublishResult.CONFIRMED
        body = orjson.loads(parcel.body)
        for event in body if isinstance(body, list) else [body]:
            self.taken[parcel.exchange].append((event["aggregate_id"], event["number"]))
        return PublishResult.CONFIRMED


class Relay(OutboxRelay):
    def __init__(self, broker):
        self._publisher = EventPublisher("source")
        self._publisher._publisher = broker
        self.sent = []

    def _settle(self, plan):
        self.sent += plan.sent


def row(number, kind, things):
    events = [{"event_id": f"{number}{thing}", "aggregate_id": thing, "number": number} for thing in things]
    whole, first = orjson.dumps(events), orjson.dumps(events[0])
    ids = frozenset(things)
    return OutboxRow(number, kind, kind.isupper(), ids, len(things), whole, f"{number}{things[0]}", first)


def some_rows(chance):
    return [
        row(number, chance.choice(TYPES), chance.sample("uvwxyz", chance.choice([1, 1, 2, 3])))
        for number in range(chance.randint(1, 14))
    ]


@pytest.mark.parametrize("seed", range(300))
def test_both_exchanges_get_the_events_of_an_aggregate_in_order(seed):
    chance = random.Random(seed)
    rows = some_rows(chance)
    single, whole = ({kind for kind in TYPES if chance.random() < 0.65} for _ in range(2))
    broker = Broker(single, whole)
    relay = Relay(broker)
    relay._send(rows)

    sent = {one.seq for one in rows if one.seq in relay.sent}
    held = set()
    for one in rows:  # an awaited event that nobody takes is kept, and so is what comes after it
        if (one.type == "A" and "A" not in single | whole) or not held.isdisjoint(one.aggregate_ids):
            held |= one.aggregate_ids
            assert one.seq not in sent
    for exchange, types in broker.takes.items():
        taken = broker.taken[exchange]
        for thing in "uvwxyz":
            numbers = [number for whose, number in taken if whose == thing]
            assert numbers == sorted(set(numbers))
        for one in rows:
            if one.seq in sent and one.type in types:
                assert {(thing, one.seq) for thing in one.aggregate_ids} <= set(taken)


@pytest.mark.parametrize("seed", range(300))
def test_rejected_row_and_later_rows_of_its_aggregates_are_sent_again(seed):
    chance = random.Random(seed)
    rows = some_rows(chance)
    broker = Broker(set(TYPES), set(TYPES), refuses=lambda: chance.random() < 0.1)
    relay = Relay(broker)
    relay._send(rows)

    again = [one for one in rows if one.seq not in relay.sent]
    for one in again:
        later = [other for other in rows if other.seq > one.seq and other.aggregate_ids & one.aggregate_ids]
        assert {other.seq for other in later}.isdisjoint(relay.sent)
    broker.refuses = lambda: False
    if again:
        relay._send(again)
    assert sorted(relay.sent) == [one.seq for one in rows]
    for taken in broker.taken.values():
        assert {(thing, one.seq) for one in rows for thing in one.aggregate_ids} == set(taken)
