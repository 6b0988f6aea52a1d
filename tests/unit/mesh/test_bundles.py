"""Which events travel together."""

from __future__ import annotations

from mesh.outgoing import MOST_TOGETHER, Kept, bundled


def events(*named):
    """Each is named after its type and its aggregate."""
    return [Kept(str(number), kind, thing, False, b"{}") for number, (kind, thing) in enumerate(named)]


def shape(bundles):
    return [" ".join(event.type + event.aggregate_id for event in bundle) for bundle in bundles]


def test_events_of_one_type_make_one_bundle():
    assert shape(bundled(events("a1", "b2", "a3", "b4"))) == ["a1 a3", "b2 b4"]


def test_the_order_of_one_aggregate_is_kept():
    assert shape(bundled(events("a1", "b1", "a1", "a2"))) == ["a1", "b1", "a1 a2"]
    assert shape(bundled(events("a1", "a1", "b1", "b2"))) == ["a1 a1", "b1 b2"]


def test_a_bundle_has_its_bound():
    many = events(*[("a", str(number)) for number in range(2 * MOST_TOGETHER + 1)])
    assert [len(bundle) for bundle in bundled(many)] == [MOST_TOGETHER, MOST_TOGETHER, 1]


def test_nothing_makes_no_bundle():
    assert bundled([]) == []
