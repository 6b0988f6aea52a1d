"""The values that the JSON of the mesh treats otherwise than kombu's. The module's docstring lists them."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from kombu.utils import json as kombu_json

from nameko_mesh.amqp.serialization import _dumps, _loads

UUID = uuid.UUID("21f2b231-1a35-4182-b56d-bc4f0a84e479")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=UTC),
        date(2026, 1, 1),
        Decimal("1.10"),
        b"\xff",
        {1: 2},
        (1, 2),
        2**63,
        1.5,
    ],
    ids=repr,
)
def test_value_arrives_as_with_kombu(value):
    expected = kombu_json.loads(kombu_json.dumps(value))

    assert repr(_loads(_dumps(value))) == repr(expected)
    assert repr(kombu_json.loads(_dumps(value))) == repr(expected)


@pytest.mark.parametrize(
    ("value", "arrives_as"),
    [(UUID, str(UUID)), (float("nan"), None), (float("inf"), None), (2**70, float(2**70))],
    ids=repr,
)
def test_value_arrives_in_another_form_than_with_kombu(value, arrives_as):
    assert _loads(_dumps(value)) == arrives_as


def test_half_a_surrogate_pair_is_not_read():
    with pytest.raises(ValueError, match="surrogate"):
        _loads(_dumps("\ud800"))
