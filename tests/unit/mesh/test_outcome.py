"""Outcomes of the items of a batch."""

from __future__ import annotations

import pytest

from nameko_mesh.errors import Refused
from nameko_mesh.outcome import Outcome


def refuse(item: int) -> int:
    if item < 0:
        raise Refused("validation-failed", "less than nothing", "item")
    return item * 2


def test_failing_item_leaves_the_others_alone():
    outcomes = Outcome.of_each(refuse, [1, -1, 2])

    assert [outcome.to_wire() for outcome in outcomes] == [
        {"ok": 2},
        {"error": {"code": "validation-failed", "message": "less than nothing", "field": "item"}},
        {"ok": 4},
    ]


def test_exception_without_a_slug_is_raised():
    with pytest.raises(ZeroDivisionError):
        Outcome.of(lambda: 1 // 0)


def test_map_and_then_keep_an_error():
    refused = Outcome.of(lambda: refuse(-1))
    assert refused.then(refuse).map(str).error is refused.error


def test_outcome_survives_the_wire():
    for outcome in Outcome.of_each(refuse, [1, -1]):
        back = Outcome.from_wire(outcome.to_wire())
        assert back.to_wire() == outcome.to_wire()


def test_unwrapping_an_error_raises_it():
    with pytest.raises(Refused, match="less than nothing"):
        Outcome.of(lambda: refuse(-1)).unwrap()
