"""The double of products and the real one give the same answers to orders."""

from __future__ import annotations

import pytest
from nameko.testing.services import worker_factory

from services.products import commands
from services.products.service import ProductsService
from tests.integration.services.doubles import ProductsDouble


@pytest.fixture(params=["double", "real"])
def products(request, products_store):
    """Products with a stock of five P001."""
    if request.param == "double":
        return ProductsDouble(stock=5)
    commands.create_product(
        products_store, None, product_id="P001", name="Laptop", price_minor=500, currency="USD", stock=5
    )
    return worker_factory(ProductsService, store=products_store)


def reserve(products, order_id, quantity):
    items = [{"product_id": "P001", "quantity": quantity}]
    (answer,) = products.reserve_stocks(orders=[{"order_id": order_id, "items": items, "exact": True}])
    return answer


def test_reservation_has_names_prices_and_currency(products):
    item = {"product_id": "P001", "quantity": 2, "name": "Laptop", "unit_price_minor": 500}
    assert reserve(products, "o-1", 2) == {"ok": {"order_id": "o-1", "items": [item], "currency": "USD"}}


def test_repeated_request_gets_the_first_answer_and_takes_stock_once(products):
    assert reserve(products, "o-1", 3) == reserve(products, "o-1", 3)
    assert "ok" in reserve(products, "o-2", 2)


def test_request_above_the_stock_is_refused_for_ever(products):
    refused = reserve(products, "o-1", 6)["error"]
    assert (refused["code"], refused["field"]) == ("out-of-stock", "quantity")
    assert reserve(products, "o-1", 6)["error"] == refused


@pytest.mark.parametrize("first", [2, 6])
def test_other_lines_under_the_same_id_are_refused(products, first):
    reserve(products, "o-1", first)
    refused = reserve(products, "o-1", 1)["error"]
    assert (refused["code"], refused["field"]) == ("idempotency-key-reused", "items")
    assert "ok" in reserve(products, "o-2", 3)


def test_refused_order_of_a_batch_leaves_the_stock_to_the_next(products):
    orders = [
        {"order_id": f"o-{quantity}", "items": [{"product_id": "P001", "quantity": quantity}], "exact": True}
        for quantity in (9, 5, 1)
    ]
    answers = products.reserve_stocks(orders=orders)
    assert [answer.get("error", {}).get("code", "ok") for answer in answers] == [
        "out-of-stock",
        "ok",
        "out-of-stock",
    ]
