"""Commands of products: one transaction each, on both databases."""

from __future__ import annotations

import eventlet
import pytest
from sqlalchemy.exc import OperationalError

from nameko_mesh.errors import Refused
from nameko_mesh.sql import open_engine
from services.products import commands, domain, reservations
from services.products.store import ProductsStore
from services.rules import Invalid
from tests.builders import stock_request
from tests.integration.services.published import published, types


@pytest.fixture
def store(products_store):
    return products_store


def stocked(store, product_id="P001", stock=10, **fields):
    values = {"name": "Laptop", "price_minor": 120050, "currency": "USD", **fields}
    return commands.create_product(store, None, product_id=product_id, stock=stock, **values)


def stock(store, product_id="P001"):
    return commands.get_products(store, [product_id])[0].unwrap().stock


def test_product_is_created_with_its_event(store):
    product = stocked(store)
    assert commands.get_products(store, ["P001"])[0].unwrap() == product
    (event,) = published(store)
    assert (event["type"], event["aggregate_id"], event["aggregate_version"]) == (
        "product_created",
        "P001",
        1,
    )
    assert event["data"]["stock"] == 10


def test_existing_product_id_is_refused(store):
    stocked(store)
    with pytest.raises(domain.ProductExists):
        stocked(store)


def test_product_without_an_id_gets_one(store):
    product = commands.create_product(
        store, None, product_id=None, name="Pen", price_minor=1, currency="EUR", stock=1
    )
    assert len(product.id) == 32


def test_repeated_command_has_one_effect_and_one_answer(store):
    stocked(store, stock=1)
    first = commands.restock(store, "c-1", "P001", 5)
    second = commands.restock(store, "c-1", "P001", 5)
    assert first == second
    assert stock(store) == 6
    assert types(store) == ["product_created", "stock_changed"]


def test_update_changes_only_the_given_fields(store):
    stocked(store)
    assert commands.update_product(store, None, "P001", None, 99).price_minor == 99
    assert commands.update_product(store, None, "P001", "Notebook", None).name == "Notebook"
    assert types(store) == ["product_created", "product_updated", "product_updated"]


def test_unknown_product_cannot_be_changed(store):
    with pytest.raises(domain.UnknownProduct):
        commands.restock(store, "c", "P404", 1)


def test_unknown_and_malformed_ids_leave_their_batch_alone(store):
    stocked(store)
    known, unknown, malformed = commands.get_products(store, ["P001", "P404", 7])
    assert known.unwrap().id == "P001"
    assert unknown.error.slug == "not-found"
    assert malformed.error.slug == "validation-failed"


def test_products_are_listed_in_id_order_and_searched_in_any_case(store):
    stocked(store, "P002", name="Keyboard 100%")
    stocked(store, "P001", name="Laptop")
    assert [product.id for product in commands.list_products(store, "", 10, None)] == ["P001", "P002"]
    assert [product.id for product in commands.list_products(store, "P001", 10, None)] == ["P002"]
    assert [product.id for product in commands.list_products(store, "", 10, "LAP")] == ["P001"]
    assert [product.id for product in commands.list_products(store, "", 10, "0%")] == ["P002"]
    assert commands.list_products(store, "", 10, "%") == commands.list_products(store, "P001", 10, None)


def test_all_products_are_read_in_pages(store, monkeypatch):
    monkeypatch.setattr(commands, "STREAM_PAGE_SIZE", 2)
    for number in range(5):
        stocked(store, f"P{number}")
    assert [product.id for product in commands.all_products(store)] == [f"P{number}" for number in range(5)]


def test_reservation_takes_stock_and_publishes_it(store):
    stocked(store, stock=5)
    (reservation,) = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    assert reservation.status == reservations.RESERVED
    assert stock(store) == 3
    assert published(store)[-1]["data"] == {"product_id": "P001", "stock": 3}


@pytest.mark.parametrize("is_cached", [True, False])
def test_reservations_of_customers_are_published_once_in_one_event(store, is_cached):
    stocked(store, stock=5)
    if not is_cached:
        store.cache.distrust()
    orders = [
        stock_request("o-1", {"P001": 2}, user_id="U001"),
        stock_request("o-2"),
        stock_request("o-3", user_id="U002"),
        *([] if is_cached else [stock_request("o-4", {"P001": 9}, user_id="U001")]),
    ]
    commands.reserve_stocks(store, orders)
    commands.reserve_stocks(store, orders)
    (published_event,) = [event for event in published(store) if event["type"] == "stocks_reserved"]
    assert published_event["aggregate_id"] == published_event["data"]["batch_id"]
    assert published_event["data"]["orders"] == [
        {"order_id": "o-1", "user_id": "U001", "items": [{"product_id": "P001", "quantity": 2}]},
        {"order_id": "o-3", "user_id": "U002", "items": [{"product_id": "P001", "quantity": 1}]},
    ]


def test_malformed_user_id_is_refused():
    with pytest.raises(Invalid) as refused:
        stock_request(user_id="not an id")
    assert refused.value.field == "user_id"


def test_reused_order_id_is_refused_and_the_first_reservation_stays(store):
    stocked(store, stock=5)
    for items in ({"P001": 2}, {"P001": 9}):  # enough in stock, and too little
        order_id = f"o-{items['P001']}"
        (first,) = commands.reserve_stocks(store, [stock_request(order_id, items)])
        same, other = commands.reserve_stocks(
            store,
            [
                stock_request(order_id, items, exact=True),
                stock_request(order_id, {"P001": 1}, exact=True),
            ],
        )
        assert (same.status, same.lines) == (first.status, first.lines)
        assert isinstance(other.refusal, reservations.OrderIdReused)
    first, second, any_answer = commands.reserve_stocks(
        store,
        [
            stock_request("o", {"P001": 1}),
            stock_request("o", {"P001": 2}, exact=True),
            stock_request("o", {"P001": 2}),
        ],
    )
    assert any_answer == first
    assert first.status == reservations.RESERVED
    assert isinstance(second.refusal, reservations.OrderIdReused)
    assert stock(store) == 2


def test_repeated_order_reserves_once(store):
    stocked(store, stock=5)
    first = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    second = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    assert first == second
    assert stock(store) == 3


def test_same_order_twice_in_a_batch_reserves_once(store):
    stocked(store, stock=5)
    first, second = commands.reserve_stocks(store, [stock_request(items={"P001": 2})] * 2)
    assert first == second
    assert stock(store) == 3


def test_refused_order_stays_refused_after_a_restock(store):
    stocked(store, stock=1)
    (refused,) = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    commands.restock(store, "c", "P001", 10)
    (again,) = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    assert again.status == reservations.REFUSED
    assert again.refusal.slug == refused.refusal.slug == "out-of-stock"
    assert str(again.refusal) == str(refused.refusal)
    assert stock(store) == 11


def test_repeated_release_gives_back_once(store):
    stocked(store, stock=5)
    commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    commands.release_stocks(store, ["o-1"])
    commands.release_stocks(store, ["o-1"])
    assert stock(store) == 5


def test_release_by_a_repeated_event_gives_back_once(store):
    stocked(store, stock=5)
    commands.release_stocks(store, ["o-1"], ("on_order_cancelled", "e-1"))
    commands.release_stocks(store, ["o-1"], ("on_order_cancelled", "e-1"))
    assert stock(store) == 5


def test_release_before_its_reserve_leaves_a_tombstone(store):
    stocked(store, stock=5)
    commands.release_stocks(store, ["o-1"])
    (late,) = commands.reserve_stocks(store, [stock_request(items={"P001": 2})])
    assert late.status == reservations.RELEASED
    assert stock(store) == 5


def test_twenty_concurrent_orders_sell_exactly_the_last_ten(store):
    stocked(store, stock=10)
    pool = eventlet.GreenPool(20)
    orders = [[stock_request(f"o-{number}")] for number in range(20)]
    answers = list(pool.imap(lambda batch: commands.reserve_stocks(store, batch)[0].status, orders))
    assert sorted(answers) == [reservations.REFUSED] * 10 + [reservations.RESERVED] * 10
    assert stock(store) == 0


def test_ten_concurrent_requests_of_one_order_reserve_once(store):
    stocked(store, stock=10)
    pool = eventlet.GreenPool(10)
    answers = list(pool.imap(lambda _: commands.reserve_stocks(store, [stock_request()])[0], range(10)))
    assert all(answer == answers[0] for answer in answers)
    assert stock(store) == 9


def test_lines_in_opposite_sequence_do_not_deadlock(store):
    stocked(store, "P001", stock=100)
    stocked(store, "P002", stock=100)
    pool = eventlet.GreenPool(20)

    def reserve(number):
        pairs = [("P001", 1), ("P002", 1)]
        order = stock_request(f"o-{number}", dict(pairs if number % 2 else reversed(pairs)))
        return commands.reserve_stocks(store, [order])[0].status

    assert set(pool.imap(reserve, range(40))) == {reservations.RESERVED}
    assert (stock(store, "P001"), stock(store, "P002")) == (60, 60)


def test_concurrent_reserves_and_releases_end_in_balance(store):
    stocked(store, stock=50)
    pool = eventlet.GreenPool(20)

    def reserve_and_release(number):
        order = stock_request(f"o-{number}")
        pile = eventlet.GreenPile(2)
        pile.spawn(commands.reserve_stocks, store, [order])
        pile.spawn(commands.release_stocks, store, [order.order_id])
        return list(pile)

    assert len(list(pool.imap(reserve_and_release, range(20)))) == 20
    assert stock(store) == 50


def test_command_id_of_another_command_is_refused(store):
    stocked(store, stock=1)
    commands.restock(store, "c-1", "P001", 5)
    for other in (
        lambda: commands.restock(store, "c-1", "P001", 6),
        lambda: commands.update_product(store, "c-1", "P001", "Another", None),
    ):
        with pytest.raises(Refused) as refused:
            other()
        assert refused.value.slug == "idempotency-key-reused"
    assert stock(store) == 6


@pytest.mark.parametrize("command_id", ["", "x" * 256, "ü", "two\nlines", 7, [], "\0", float("nan")])
def test_malformed_command_id_is_refused(store, command_id):
    stocked(store)
    with pytest.raises(Refused) as refused:
        commands.restock(store, command_id, "P001", 5)
    assert refused.value.field == "command_id"


@pytest.mark.parametrize("product_id", [None, 7, "", "a b", "\ud800", "\0"])
def test_malformed_product_id_never_reaches_the_database(store, product_id):
    with pytest.raises(Invalid):
        commands.restock(store, "c", product_id, 1)
    with pytest.raises(Invalid):
        commands.update_product(store, None, product_id, "Name", None)


@pytest.mark.parametrize("batch", [None, 7, "P001", {"P001": 1}, ["P001"] * 1001])
def test_malformed_batch_is_refused(store, batch):
    with pytest.raises(Refused) as refused:
        commands.get_products(store, batch)
    assert refused.value.slug == "validation-failed"


def test_missing_table_raises_an_error_other_than_unavailable(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(OperationalError, match="no such table"):
        commands.get_products(ProductsStore(engine), ["P001"])
    engine.dispose()


def another_instance(store):
    """A store of another instance, over the same database."""
    return ProductsStore(store._engine)


def cached(store):
    """A store that has its product in the cache."""
    stocked(store)
    commands.reserve_stocks(store, [stock_request("before")])
    return store


def test_stock_taken_by_another_instance_is_not_sold_again(store):
    other = cached(another_instance(store))
    commands.reserve_stocks(store, [stock_request("o-1", {"P001": 8})])
    (refused,) = commands.reserve_stocks(other, [stock_request("o-2", {"P001": 2})])
    (reserved,) = commands.reserve_stocks(other, [stock_request("o-3", {"P001": 1})])
    assert (refused.status, reserved.status) == (reservations.REFUSED, reservations.RESERVED)
    assert stock(store) == 0


def test_reservation_has_the_price_set_by_another_instance(store):
    other = cached(another_instance(store))
    commands.update_product(store, None, "P001", None, 5)
    (reservation,) = commands.reserve_stocks(other, [stock_request("o-1")])
    assert reservation.lines[0].unit_price_minor == 5


def test_stock_added_by_another_instance_is_sold(store):
    other = cached(another_instance(store))
    commands.restock(store, "c-1", "P001", 100)
    (reservation,) = commands.reserve_stocks(other, [stock_request("o-1", {"P001": 100})])
    assert reservation.status == reservations.RESERVED
    assert stock(store) == 9


def test_repeated_order_among_new_ones_keeps_its_answer(store):
    cached(store)
    answers = commands.reserve_stocks(
        store, [stock_request("before"), stock_request("o-1"), stock_request("o-2")]
    )
    assert [answer.status for answer in answers] == [reservations.RESERVED] * 3
    assert stock(store) == 7


def test_concurrent_instances_sell_exactly_the_stock(store):
    stocked(store, stock=20)
    instances = [another_instance(store) for _ in range(3)]

    def reserve(number):
        (reservation,) = commands.reserve_stocks(instances[number % 3], [stock_request(f"o-{number}")])
        return reservation.status

    answers = list(eventlet.GreenPool(30).imap(reserve, range(30)))
    assert answers.count(reservations.RESERVED) == 20
    assert stock(store) == 0
