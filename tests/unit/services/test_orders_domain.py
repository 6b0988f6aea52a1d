"""The rules of orders."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from services.orders import domain
from services.rules import Invalid, Refusal
from tests.builders import NOON, a_pending_order, a_request, a_reservation, lines


def test_same_user_and_key_give_the_same_order_id():
    assert a_request(key="k").order_id == a_request(key="k", items={"P002": 3}).order_id


def test_order_id_is_the_uuid5_of_user_and_key():
    for key in ("k", "!", "x" * 255):
        name = f"U001\n{key}"
        assert a_request(key=key).order_id == str(uuid.uuid5(domain._ORDER_IDS, name))


def test_same_key_of_another_user_gives_another_order_id():
    assert a_request("U001", key="k").order_id != a_request("U002", key="k").order_id


def test_request_without_a_key_gets_a_new_order_id():
    assert a_request().order_id != a_request().order_id


def test_fingerprint_ignores_the_sequence_of_the_lines():
    request = a_request(key="k", items={"P001": 1, "P002": 2})
    other = a_request(key="k", items={"P002": 2, "P001": 1})
    assert request.fingerprint == other.fingerprint


def test_confirming_changes_status_lines_currency_time_and_version_only():
    before = a_pending_order()
    after = domain.confirmed(before, a_reservation(quantity=2, unit_price_minor=500), NOON)
    changed = {"status", "lines", "currency", "confirmed_at", "version"}
    fields = [field.name for field in dataclasses.fields(before)]
    assert {name for name in fields if getattr(before, name) != getattr(after, name)} == changed


def test_confirmed_order_has_names_and_prices_of_its_reservation():
    order = domain.confirmed(a_pending_order(), a_reservation(quantity=2, unit_price_minor=500), NOON)

    assert order.status == domain.CONFIRMED
    assert order.lines == (domain.Line("P001", 2, "Laptop", 500),)
    assert (order.total_minor, order.currency, order.version) == (1000, "USD", 2)


def test_request_of_a_reservation_equals_the_original_request():
    request = a_request(key="k", items={"P002": 1, "P001": 2})
    reserved = domain.reserved_request(request.order_id, request.user_id, lines({"P001": 2, "P002": 1}))
    assert reserved == request


def test_settled_order_is_not_settled_again():
    cancelled = domain.cancelled(a_pending_order())
    assert domain.confirmed(cancelled, a_reservation(), NOON) is cancelled
    assert domain.rejected(cancelled, {"code": "out-of-stock", "message": "none"}) is cancelled


def test_rejected_order_cannot_be_cancelled():
    order = domain.rejected(a_pending_order(), {"code": "out-of-stock", "message": "none left"})
    with pytest.raises(Refusal, match="rejected"):
        domain.cancelled(order)


def test_cancelled_order_is_not_cancelled_again():
    order = domain.cancelled(a_pending_order())
    assert domain.cancelled(order) is order


def test_repeated_request_gets_the_first_answer_after_a_cancel():
    request = a_request(key="k")
    confirmed = domain.confirmed(a_pending_order(request), a_reservation(), NOON)
    assert domain.first_answer(domain.cancelled(confirmed), request).status == domain.CONFIRMED


def test_repeated_request_is_rejected_again():
    request = a_request(key="k")
    reason = {"code": "out-of-stock", "message": "none left", "field": "quantity"}
    order = domain.rejected(a_pending_order(request), reason)
    with pytest.raises(domain.Rejected, match="none left") as refused:
        domain.first_answer(order, request)
    assert (refused.value.slug, refused.value.field) == ("out-of-stock", "quantity")


def test_other_request_under_the_same_key_is_refused():
    order = a_pending_order(a_request(key="k"))
    with pytest.raises(domain.KeyReused):
        domain.first_answer(order, a_request(key="k", items={"P001": 2}))


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tschüss", 7])
def test_malformed_key_is_refused(key):
    with pytest.raises(Invalid) as refused:
        domain.new_request("U001", lines({"P001": 1}), key)
    assert refused.value.field == "idempotency_key"


@pytest.mark.parametrize("items", [None, [], "P001", [1], [{"product_id": "P001"}]])
def test_malformed_items_are_refused(items):
    with pytest.raises(Invalid) as refused:
        domain.new_request("U001", items, None)
    assert str(refused.value.field).startswith("items")


def test_merged_lines_above_the_maximum_quantity_are_refused():
    items = [{"product_id": "P001", "quantity": 10**6}, {"product_id": "P001", "quantity": 1}]
    with pytest.raises(Invalid, match="in all"):
        domain.new_request("U001", items, None)


def test_order_has_name_and_address_of_its_customer():
    order = domain.pending(a_request(), "Alice", "a@example.com", NOON)
    assert (order.user_name, order.user_email, order.total_minor) == ("Alice", "a@example.com", None)
