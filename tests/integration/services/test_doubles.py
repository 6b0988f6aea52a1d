"""The double of products and the real one pass the same suite, so that orders sees no difference.

A double that drifts from the service makes the tests of orders worthless.
"""

from __future__ import annotations

import importlib

import pytest
from nameko.testing.services import worker_factory

from services.orders.remote import recorded_reservation
from services.products.service import ProductsService
from tests.builders import a_request, a_reservation
from tests.integration.services.doubles import (
    CURRENCY,
    NAME,
    UNIT_PRICE_MINOR,
    ProductsDouble,
    reserved_line,
)

STOCK = 5
PRODUCTS = ("P001", "P002")

OUT_OF_STOCK = ("out-of-stock", "quantity")
REUSED = ("idempotency-key-reused", "items")


class RealProducts:
    """The service itself, from the entrypoint to a database."""

    def __init__(self, store):
        self.service = worker_factory(ProductsService, store=store)
        for product_id in PRODUCTS:
            fields = {"name": NAME, "price_minor": UNIT_PRICE_MINOR, "currency": CURRENCY}
            self.service.create_product(product_id=product_id, stock=STOCK, **fields)

    def reserve_stocks(self, *, orders):
        return self.service.reserve_stocks(orders=orders)

    def left(self, product_id="P001"):
        return self.service.get_product(product_id)["stock"]

    def restock(self, quantity):
        for product_id in PRODUCTS:
            self.service.restock(f"c-{product_id}", product_id, quantity)


class RestockableDouble(ProductsDouble):
    def restock(self, quantity):
        self.stock += quantity


@pytest.fixture
def real(products_store):
    return RealProducts(products_store)


@pytest.fixture(params=["double", "real"])
def products(request, real):
    return RestockableDouble(stock=STOCK) if request.param == "double" else real


def an_order(items=None, order_id="o-1", exact=True):
    """An order as the service orders sends it."""
    lines = a_request(items=items or {"P001": 2}).lines
    return {**recorded_reservation(order_id, lines), "exact": exact}


def reserve(products, *orders):
    return products.reserve_stocks(orders=list(orders))


def refusal(answer):
    """The code and the field of a refusal, which has only a message for people beside them."""
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message", "field"}
    return answer["error"]["code"], answer["error"]["field"]


def test_reservation_names_prices_and_takes_the_stock(products):
    (answer,) = reserve(products, an_order({"P001": 2}))
    assert answer == {"ok": {"order_id": "o-1", "items": [reserved_line("P001", 2)], "currency": CURRENCY}}
    assert products.left() == STOCK - 2


def test_lines_are_answered_in_id_order_with_each_product_once(products):
    order = an_order()
    order["items"] = [
        {"product_id": "P002", "quantity": 1},
        {"product_id": "P001", "quantity": 2},
        {"product_id": "P002", "quantity": 3},
    ]
    (answer,) = reserve(products, order)
    assert answer["ok"]["items"] == [reserved_line("P001", 2), reserved_line("P002", 4)]
    assert (products.left("P001"), products.left("P002")) == (STOCK - 2, STOCK - 4)


def test_each_product_has_a_stock_of_its_own(products):
    (answer,) = reserve(products, an_order({"P001": STOCK, "P002": STOCK}))
    assert "ok" in answer
    assert (products.left("P001"), products.left("P002")) == (0, 0)


def test_order_above_the_stock_takes_nothing(products):
    (answer,) = reserve(products, an_order({"P001": 1, "P002": STOCK + 1}))
    assert refusal(answer) == OUT_OF_STOCK
    assert (products.left("P001"), products.left("P002")) == (STOCK, STOCK)


def test_repeated_request_gets_the_first_answer_and_takes_stock_once(products):
    first = reserve(products, an_order())
    assert reserve(products, an_order()) == first
    assert products.left() == STOCK - 2


def test_refused_order_stays_refused_after_a_restock(products):
    first = reserve(products, an_order({"P001": STOCK + 1}))
    products.restock(10)
    assert reserve(products, an_order({"P001": STOCK + 1})) == first
    assert products.left() == STOCK + 10


def test_restocked_products_can_be_reserved_by_another_order(products):
    products.restock(10)
    (answer,) = reserve(products, an_order({"P001": STOCK + 1}))
    assert "ok" in answer
    assert products.left() == 9


def test_other_lines_under_the_id_of_a_reserved_order_are_refused(products):
    reserve(products, an_order({"P001": 2}))
    (answer,) = reserve(products, an_order({"P002": 2}))
    assert refusal(answer) == REUSED
    assert products.left("P002") == STOCK


def test_other_lines_under_the_id_of_a_refused_order_are_refused(products):
    reserve(products, an_order({"P001": STOCK + 1}))
    (answer,) = reserve(products, an_order({"P001": 1}))
    assert refusal(answer) == REUSED
    assert products.left() == STOCK


def test_other_lines_get_the_first_answer_unless_exact(products):
    first = reserve(products, an_order({"P001": 2}))
    assert reserve(products, an_order({"P002": 1}, exact=False)) == first


def test_orders_of_a_batch_are_decided_in_turn(products):
    answers = reserve(
        products,
        an_order({"P001": 3}, "o-1"),
        an_order({"P001": 3}, "o-2"),
        an_order({"P001": 2}, "o-3"),
    )
    assert [next(iter(answer)) for answer in answers] == ["ok", "error", "ok"]
    assert products.left() == 0


def test_refused_order_of_a_batch_leaves_the_stock_to_the_next(products):
    answers = reserve(products, *(an_order({"P001": quantity}, f"o-{quantity}") for quantity in (9, 5, 1)))
    assert [answer.get("error", {}).get("code", "ok") for answer in answers] == [
        "out-of-stock",
        "ok",
        "out-of-stock",
    ]


def test_same_order_twice_in_a_batch_is_decided_once(products):
    first, second = reserve(products, an_order(), an_order())
    assert first == second
    assert products.left() == STOCK - 2


def test_other_lines_under_the_same_id_in_a_batch_are_refused(products):
    first, second = reserve(products, an_order({"P001": 2}), an_order({"P002": 2}))
    assert "ok" in first
    assert refusal(second) == REUSED
    assert (products.left("P001"), products.left("P002")) == (STOCK - 2, STOCK)


def test_reservation_of_the_builder_has_the_shape_of_a_real_one(real):
    (answer,) = reserve(real, an_order({"P001": 1}))
    assert a_reservation("o-1", 1, UNIT_PRICE_MINOR) == answer["ok"]


def test_product_of_the_gateway_stub_has_the_shape_of_a_real_one(real, tmp_path, monkeypatch):
    monkeypatch.setenv("STUBS_DIR", str(tmp_path))
    stub = importlib.import_module("tests.integration.gateway.gateway_stubs").Products()
    (stubbed,) = stub.get_products(product_ids=["P001"])
    (served,) = real.service.get_products(product_ids=["P001"])

    def types(answer):
        return {name: type(value) for name, value in answer["ok"].items()}

    assert types(stubbed) == types(served)
