"""The rules of products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.products import domain, reservations
from services.rules import MAX_QUANTITY, Invalid
from tests.builders import a_product, by_id, stock_request


def test_reservation_takes_every_line_at_the_current_price():
    on_hand = by_id(a_product("P001", stock=10, price_minor=500), a_product("P002", stock=3, price_minor=70))

    (decision,), changed = reservations.reserve_all(on_hand, [stock_request(items={"P001": 2, "P002": 3})])

    assert decision.status == reservations.RESERVED
    assert [(line.product_id, line.quantity, line.unit_price_minor) for line in decision.lines] == [
        ("P001", 2, 500),
        ("P002", 3, 70),
    ]
    assert {product.id: product.stock for product in changed.values()} == {"P001": 8, "P002": 0}


def test_order_short_of_one_product_takes_nothing():
    on_hand = by_id(a_product("P001", stock=10), a_product("P002", stock=1))

    (decision,), changed = reservations.reserve_all(on_hand, [stock_request(items={"P001": 1, "P002": 2})])

    assert decision.status == reservations.REFUSED
    assert isinstance(decision.refusal, reservations.OutOfStock)
    assert changed == {}


def test_orders_of_a_batch_take_stock_in_sequence():
    on_hand = by_id(a_product(stock=3))
    orders = [
        stock_request("o-1", {"P001": 2}),
        stock_request("o-2", {"P001": 2}),
        stock_request("o-3", {"P001": 1}),
    ]

    decisions, changed = reservations.reserve_all(on_hand, orders)

    assert [decision.status for decision in decisions] == [
        reservations.RESERVED,
        reservations.REFUSED,
        reservations.RESERVED,
    ]
    assert changed["P001"].stock == 0


def test_each_change_of_stock_raises_the_version():
    decisions, changed = reservations.reserve_all(
        by_id(a_product(stock=5, version=7)), [stock_request("o-1"), stock_request("o-2")]
    )
    assert changed["P001"].version == 9
    assert len(decisions) == 2


def test_order_of_an_unknown_product_is_refused():
    with pytest.raises(domain.UnknownProduct, match="P404"):
        reservations.reserve(by_id(a_product()), stock_request(items={"P404": 1}))


def test_order_in_two_currencies_is_refused():
    on_hand = by_id(a_product("P001", currency="USD"), a_product("P002", currency="EUR"))
    with pytest.raises(Invalid, match="EUR, USD"):
        reservations.reserve(on_hand, stock_request(items={"P001": 1, "P002": 1}))


def test_two_lines_of_a_product_become_one():
    items = [{"product_id": "P001", "quantity": 2}, {"product_id": "P001", "quantity": 3}]
    assert reservations.new_request("o-1", items).lines == (reservations.Line("P001", 5),)


def test_release_gives_the_stock_back():
    on_hand = by_id(a_product(stock=10))
    (decision,), changed = reservations.reserve_all(on_hand, [stock_request(items={"P001": 4})])

    given_back = reservations.release_all(changed, [decision])

    assert given_back["P001"].stock == 10


@pytest.mark.parametrize("status", [reservations.REFUSED, reservations.RELEASED])
def test_unreserved_reservation_gives_no_stock_back(status):
    reservation = reservations.Reservation(order_id="o-1", status=status)
    assert reservations.release_all(by_id(a_product()), [reservation]) == {}


BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "no list": ("P001", "items"),
    "an empty list": ([], "items"),
    "too many lines": ([{"product_id": f"P{n}", "quantity": 1} for n in range(10_000)], "items"),
    "a line that is no object": (["P001"], "items[0]"),
    "no product": ([{"quantity": 1}], "items[0].product_id"),
    "quantity 0": ([{"product_id": "P001", "quantity": 0}], "items[0].quantity"),
    "a negative quantity": ([{"product_id": "P001", "quantity": -1}], "items[0].quantity"),
    "a string": ([{"product_id": "P001", "quantity": "2"}], "items[0].quantity"),
    "a fraction": ([{"product_id": "P001", "quantity": 1.5}], "items[0].quantity"),
    "true": ([{"product_id": "P001", "quantity": True}], "items[0].quantity"),
    "a billion": ([{"product_id": "P001", "quantity": 10**9}], "items[0].quantity"),
    "a million twice": (
        [{"product_id": "P001", "quantity": 10**6}, {"product_id": "P001", "quantity": 10**6}],
        "items[1].quantity",
    ),
}


@pytest.mark.parametrize(("items", "field"), BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_malformed_line_is_refused_by_field(items, field):
    with pytest.raises(Invalid) as refused:
        reservations.new_request("o-1", items)
    assert refused.value.field == field
    assert refused.value.slug == "validation-failed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 201),
        ("name", None),
        ("price_minor", -1),
        ("price_minor", 12.5),
        ("currency", "usd"),
        ("currency", "EURO"),
        ("stock", -1),
        ("stock", 10**9),
        ("id", "no spaces"),
        ("id", "x" * 65),
    ],
)
def test_malformed_product_is_refused_by_field(field, value):
    fields: dict[str, Any] = {"id": "P001", "name": "Laptop", "price_minor": 1, "currency": "USD", "stock": 1}
    fields[field] = value
    with pytest.raises(Invalid) as refused:
        domain.new_product(product_id=fields.pop("id"), **fields)
    assert refused.value.field == field


def test_change_without_a_field_is_refused():
    with pytest.raises(Invalid):
        domain.changed(a_product())


def test_change_raises_the_version():
    product = domain.changed(a_product(version=3), price_minor=99)
    assert (product.price_minor, product.version) == (99, 4)


@pytest.mark.parametrize("quantity", [0, -5, "3", 10**9])
def test_restock_of_a_bad_quantity_is_refused(quantity):
    with pytest.raises(Invalid):
        domain.restocked(a_product(), quantity)


def test_restock_adds_to_the_stock():
    assert domain.restocked(a_product(stock=1), 4).stock == 5


def test_order_above_the_maximum_total_is_refused():
    dear = by_id(a_product(price_minor=domain.MAX_PRICE_MINOR, stock=MAX_QUANTITY))
    reservations.reserve(dear, stock_request(items={"P001": 9007}))
    with pytest.raises(Invalid):
        reservations.reserve(dear, stock_request(items={"P001": 9008}))


def test_repeated_request_keeps_its_decision_unless_an_exact_one_differs():
    products = by_id(a_product("P001", stock=5), a_product("P002", stock=0))
    orders = [stock_request("o-1", {"P001": 2}), stock_request("o-2", {"P002": 1})]
    reserved, refused = reservations.reserve_all(products, orders)[0]
    assert reservations.repeated(orders[0], reserved) is reserved
    assert reservations.repeated(orders[1], refused) is refused
    for order, before in (
        (stock_request("o-1", {"P001": 1}), reserved),
        (stock_request("o-1", {"P001": 2, "P002": 1}), reserved),
        (stock_request("o-2", {"P001": 1}), refused),
    ):
        assert reservations.repeated(order, before) is before
        again = reservations.repeated(replace(order, exact=True), before)
        assert again.refusal.slug == "idempotency-key-reused"
        assert again.status == reservations.REFUSED


def test_request_after_its_cancel_gets_the_tombstone():
    tombstone = reservations.Reservation(order_id="o-1", status=reservations.RELEASED)
    assert reservations.repeated(stock_request("o-1", {"P001": 9}, exact=True), tombstone) is tombstone
