"""One item's answer in a batch."""

from __future__ import annotations

import pytest

from nameko_mesh.errors import Refused
from nameko_mesh.outcome import Outcome


def refuse(item: int) -> int:
    if item < 0:
        raise Refused("validation-failed", "less than nothing", "item")
    return item * 2


def test_a_bad_item_spoils_no_other():
    outcomes = Outcome.of_each(refuse, [1, -1, 2])

    assert [outcome.to_wire() for outcome in outcomes] == [
        {"ok": 2},
        {"error": {"code": "validation-failed", "message": "less than nothing", "field": "item"}},
        {"ok": 4},
    ]


def test_what_was_not_meant_to_be_raised_is_not_an_outcome():
    with pytest.raises(ZeroDivisionError):
        Outcome.of(lambda: 1 // 0)


def test_an_error_stays_an_error_on_the_way():
    refused = Outcome.of(lambda: refuse(-1))
    assert refused.then(refuse).map(str).error is refused.error


def test_there_and_back_again():
    for outcome in Outcome.of_each(refuse, [1, -1]):
        back = Outcome.from_wire(outcome.to_wire())
        assert back.to_wire() == outcome.to_wire()


def test_to_unwrap_an_error_raises_it():
    with pytest.raises(Refused, match="less than nothing"):
        Outcome.of(lambda: refuse(-1)).unwrap()
