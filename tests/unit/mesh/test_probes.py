"""Probes: the parts that a container lacks, found by their attributes."""

from __future__ import annotations

from types import SimpleNamespace

import eventlet
import pytest

from nameko_mesh.errors import Unavailable
from nameko_mesh.runtime import probes
from nameko_mesh.runtime.probes import Probes


class FakeConsumer(probes.ProbedConsumer):
    def __init__(self, probe_queue="probe"):
        self.probe_queue = probe_queue
        self.queues = [SimpleNamespace(name="rpc-service")]


class FakeConsumerProbe:
    """Stands in for the probe over the broker: returns the lost consumers, or raises."""

    def __init__(self, lost=(), error=None):
        self.lost, self.error = list(lost), error

    def unreachable(self, consumers, timeout):
        if self.error is not None:
            raise self.error
        return [consumer for consumer in consumers if consumer in self.lost]


def probes_of(*extensions, lost=(), error=None):
    found = Probes(SimpleNamespace(extensions=extensions))
    found._consumer_probe = FakeConsumerProbe(lost, error)
    return found


def a_database(query):
    return SimpleNamespace(probe=query)


def broken():
    raise ConnectionError("the database is down")


CONSUMER = FakeConsumer()
RPC = SimpleNamespace(consumer=CONSUMER)


def test_service_with_working_parts_lacks_nothing():
    assert probes_of(RPC, a_database(lambda: None), object()).missing() == []


def test_consumer_that_has_never_connected_means_no_broker():
    assert probes_of(SimpleNamespace(consumer=FakeConsumer(""))).missing() == ["broker"]


def test_unavailable_broker_is_missing_but_no_consumer_is_lost():
    away = probes_of(RPC, error=Unavailable("the broker takes no messages"))
    assert (away.missing(), away.lost_consumers()) == (["broker"], [])


def test_lost_consumer_is_missing_and_named_by_its_queue():
    lost = probes_of(RPC, lost=[CONSUMER])
    assert (lost.missing(), lost.lost_consumers()) == (["consumer"], ["rpc-service"])


@pytest.mark.parametrize("query", [broken, lambda: eventlet.sleep(60)])
def test_database_that_fails_or_hangs_is_missing(monkeypatch, query):
    monkeypatch.setattr(probes, "READY_TIMEOUT_SECONDS", 0.01)
    assert probes_of(RPC, a_database(query)).missing() == ["database"]
