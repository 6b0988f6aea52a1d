"""Small modules: money, paging, backoff, context, errors, log, events, settings."""

from __future__ import annotations

import logging
import uuid

import pytest
from nameko import config

from nameko_mesh import errors, settings
from nameko_mesh.backoff import back_off
from nameko_mesh.context import deadline_of, validated_context
from nameko_mesh.events.schema import sealed
from nameko_mesh.log import FaultFilter
from nameko_mesh.outcome import Outcome
from nameko_mesh.paging import checked_limit, decode_cursor, page
from services import money
from services.orders.events import OrderPlaced


@pytest.mark.parametrize(
    ("minor", "currency", "number", "text"),
    [
        (120050, "USD", 1200.5, "1200.50 USD"),
        (5, "EUR", 0.05, "0.05 EUR"),
        (500, "JPY", 500, "500 JPY"),
        (1234, "KWD", 1.234, "1.234 KWD"),
        (12345, "CLF", 1.2345, "1.2345 CLF"),
        (None, "USD", None, ""),
        (1, None, None, ""),
    ],
)
def test_amount_has_the_digits_of_its_currency(minor, currency, number, text):
    assert money.major_units(minor, currency) == number
    assert money.amount(minor, currency) == text


def test_pages_cover_all_rows_without_gap_or_overlap():
    rows = [f"{n:02}" for n in range(7)]
    seen, cursor = [], None
    while True:
        after = (decode_cursor(cursor) or [""])[0]
        following = [row for row in rows if row > after][: 3 + 1]
        answer = page(following, 3, lambda row: {"row": row}, lambda row: [row])
        seen += [item["row"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert seen == rows


@pytest.mark.parametrize("cursor", ["%%%", "e30=", "WzFd", "", 7, "WyJhIiwiYiJd", "WyJcdWQ4MDAiXQ=="])
def test_forged_cursor_is_refused(cursor):
    with pytest.raises(errors.Refused) as refused:
        decode_cursor(cursor)
    assert refused.value.field == "cursor"


@pytest.mark.parametrize("limit", [0, -1, 101, "10", True, None])
def test_limit_outside_its_bounds_is_refused(limit):
    with pytest.raises(errors.Refused) as refused:
        checked_limit(limit)
    assert refused.value.field == "limit"


def test_back_off_grows_to_its_bound_without_overflow():
    assert all(0 <= back_off(n, first=0.1, longest=2) <= min(2, 0.1 * 2**n) for n in range(20))
    assert back_off(10**9, longest=2) <= 2


@pytest.mark.parametrize("stack", [5, "a.b.c", [1], ["a"] * 101, {"a": 1}])
def test_malformed_call_stack_is_dropped(stack):
    assert validated_context({"nameko.call_id_stack": stack, "nameko.x": 1}) == {"nameko.x": 1}


def test_valid_context_is_kept():
    headers = {"nameko.call_id_stack": ["a.b.1"], "nameko.deadline": 1.5}
    assert validated_context(headers) == headers
    assert validated_context(None) == {}


@pytest.mark.parametrize("deadline", ["soon", True, -1, float("inf"), float("nan"), None])
def test_malformed_deadline_is_dropped(deadline):
    assert deadline_of({"deadline": deadline}) is None
    assert "nameko.deadline" not in validated_context({"nameko.deadline": deadline}) or deadline is None


def test_only_an_error_with_a_slug_is_described():
    assert errors.describe(ValueError("secret")) is None
    assert errors.describe(errors.Refused("not-found", "gone", "id")) == {
        "code": "not-found",
        "message": "gone",
        "field": "id",
    }


@pytest.mark.parametrize(
    ("wire", "kind", "slug"),
    [
        ({"exc_type": "OutOfStock", "value": "none", "slug": "out-of-stock"}, errors.Refused, "out-of-stock"),
        ({"exc_type": "MethodNotFound", "value": "x"}, errors.Refused, "validation-failed"),
        ({"exc_type": "KeyError", "value": "'x'"}, errors.RemoteFault, "internal"),
    ],
)
def test_wire_error_becomes_the_matching_exception(wire, kind, slug):
    error = errors.from_wire(wire)
    assert type(error) is kind
    assert error.slug == slug


def test_missing_setting_is_named():
    with config.patch({"AMQP_URI": ""}, clear=True):
        with pytest.raises(settings.MissingSetting, match="AMQP_URI"):
            settings.required("AMQP_URI")
        assert settings.optional("AMQP_URI", "x") == "x"


def test_log_keeps_faults_and_drops_refusals():
    def kept(error):
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        return FaultFilter().filter(record)

    assert kept(RuntimeError("a bug"))
    assert kept(errors.Unavailable("the database is away"))
    assert not kept(errors.Refused("not-found", "gone"))
    assert FaultFilter().filter(logging.makeLogRecord({}))


def test_database_url_contains_the_service_name():
    with config.patch({"DATABASE_URL": "sqlite:///{service}.db"}):
        assert settings.database_url("orders") == "sqlite:///orders.db"


def test_each_event_gets_its_own_random_uuid():
    event = OrderPlaced(order_id="O1", user_id="U1", status="pending", items=[])
    ids = [one["event_id"] for one in sealed([(event, 1)] * 1000, "2026-01-01T00:00:00.000000Z")]

    assert len(set(ids)) == 1000
    assert ids == [str(uuid.UUID(each)) for each in ids]
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in ids} == {(4, uuid.RFC_4122)}


def test_outcomes_are_frozen_and_equal_when_their_parts_are():
    outcome = Outcome(1)
    assert outcome == Outcome(1, None) != Outcome(2)
    assert {outcome, Outcome(1, None)} == {Outcome(1)}
    with pytest.raises(AttributeError):
        outcome.value = 2
