"""Which events travel together."""

from __future__ import annotations

from mesh.bundle_publisher import joined
from mesh.outgoing import MOST_TOGETHER, Outgoing, bundled


def events(*named):
    """Each is named after its type and its aggregate."""
    return [{"type": kind, "aggregate_id": thing} for kind, thing in named]


def shape(bundles):
    return [" ".join(event["type"] + event["aggregate_id"] for event in bundle) for bundle in bundles]


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


def rows(*named):
    """Each is named after its type and its aggregates."""
    return [
        Outgoing(number, kind, False, frozenset(things), len(things), b"[]", str(number), b"{}")
        for number, (kind, *things) in enumerate(named)
    ]


def messages(*named):
    return [[row.seq for row in one.rows] for one in joined(rows(*named))]


def test_rows_of_one_type_share_a_message():
    assert messages("a12", "b34", "a56", "b78") == [[0, 2], [1, 3]]


def test_two_rows_of_one_aggregate_share_one_too():
    assert messages("a12", "a23", "a45") == [[0, 1, 2]]


def test_no_message_has_what_another_that_comes_later_must_go_before():
    assert messages("a12", "b23", "a34", "a56") == [[0], [1], [2, 3]]


def test_an_event_that_was_committed_alone_travels_alone():
    assert messages("a12", "a3", "a45") == [[0, 2], [1]]


def test_a_message_of_several_rows_has_the_bound_of_a_bundle():
    half = [f"{number}-" for number in range(MOST_TOGETHER // 2 + 1)]
    other = [f"{number}+" for number in range(MOST_TOGETHER // 2 + 1)]
    assert messages(("a", *half), ("a", *other)) == [[0], [1]]
