"""Placing, cancelling and reading orders, on both databases."""

from __future__ import annotations

import eventlet
import pytest
import sqlalchemy as sa

from nameko_mesh.errors import DeadlineExceeded, Refused, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import commands, domain, recovery, saga
from services.rules import Refusal
from tests.builders import a_customer, a_request, lines
from tests.integration.services.doubles import BOB, ProductsDouble, UsersDouble, place
from tests.integration.services.published import published, types


@pytest.fixture
def store(orders_store):
    return orders_store


def test_order_is_confirmed_with_prices_and_both_events(store):
    (outcome,) = place(store, a_request(items={"P001": 2}))
    order = outcome.unwrap()
    assert (order.status, order.total_minor, order.currency) == (domain.CONFIRMED, 1000, "USD")
    assert commands.get_order(store, order.id) == order
    assert types(store) == ["order_placed", "order_confirmed"]
    assert [event["aggregate_version"] for event in published(store)] == [1, 2]


def test_order_out_of_stock_is_recorded_as_rejected(store):
    request = a_request(items={"P001": 2})
    (outcome,) = place(store, request, products=ProductsDouble(stock=1))
    assert outcome.error.slug == "out-of-stock"
    order = commands.get_order(store, request.order_id)
    assert (order.status, order.reason["code"]) == (domain.REJECTED, "out-of-stock")
    assert types(store) == ["order_placed", "order_rejected"]


def test_repeated_key_gets_the_same_answer_and_one_reservation(store):
    products = ProductsDouble(stock=10)
    request = a_request(key="k", items={"P001": 2})
    (first,) = place(store, request, products=products)
    (second,) = place(store, request, products=products)
    assert first == second
    assert products.left() == 8
    assert types(store) == ["order_placed", "order_confirmed"]


def test_reused_key_is_refused(store):
    place(store, a_request(key="k"))
    (outcome,) = place(store, a_request(key="k", items={"P002": 1}))
    assert outcome.error.slug == "idempotency-key-reused"


def test_repeated_key_of_a_rejected_order_is_rejected_again(store):
    products = ProductsDouble(stock=0)
    (first,) = place(store, a_request(key="k"), products=products)
    products.stock = 10
    (second,) = place(store, a_request(key="k"), products=products)
    assert str(first.error) == str(second.error)


def test_ten_concurrent_requests_of_one_key_are_one_order(store):
    products = ProductsDouble(stock=10)
    pool = eventlet.GreenPool(10)
    outcomes = list(pool.imap(lambda _: place(store, a_request(key="k"), products=products)[0], range(10)))
    confirmed = [outcome for outcome in outcomes if outcome.error is None]
    assert confirmed
    assert {outcome.unwrap().id for outcome in confirmed} == {a_request(key="k").order_id}
    assert {outcome.error.slug for outcome in outcomes if outcome.error} <= {"request-in-progress"}
    assert products.left() == 9


def test_same_key_twice_in_a_batch_is_one_order(store):
    products = ProductsDouble(stock=10)
    first, second = place(store, a_request(key="k"), a_request(key="k"), products=products)
    assert first.unwrap().status == domain.CONFIRMED
    assert second == first
    assert products.left() == 9
    other, _ = place(store, a_request(key="k", items={"P002": 1}), a_request(key="k"), products=products)
    assert other.error.slug == "idempotency-key-reused"


def test_repeated_key_of_a_cancelled_pending_order_is_refused(store):
    request = a_request(key="k")
    place(store, request, products=ProductsDouble(error=Unavailable("down")))
    commands.cancel_order(store, request.order_id)
    (again,) = place(store, request)
    assert again.error.slug == "conflict"


def test_invalid_request_of_a_batch_leaves_the_others_alone(store):
    requests = [Outcome(error=Refused("validation-failed", "bad", "items")), Outcome(a_request())]
    bad, good = saga.place_orders(store, ProductsDouble(), UsersDouble(), requests)
    assert bad.error.slug == "validation-failed"
    assert good.unwrap().status == domain.CONFIRMED


def test_refused_order_of_a_batch_leaves_the_others_alone(store):
    outcomes = place(
        store,
        a_request(items={"P001": 3}),
        a_request(items={"P001": 9}),
        a_request(),
        products=ProductsDouble(stock=5),
    )
    assert [outcome.error.slug if outcome.error else "ok" for outcome in outcomes] == [
        "ok",
        "out-of-stock",
        "ok",
    ]


def test_batch_of_new_repeated_unknown_and_reused_gets_each_its_answer(store):
    before, *_ = place(store, a_request(key="before"))
    requests = [
        a_request(key="new"),
        a_request(key="before"),
        a_request("U002", key="unknown"),
        a_request("U003", key="missing"),
        a_request(items={"P001": 2}, key="before"),
        a_request(key="new-too"),
    ]

    new, again, unknown, missing, reused, other = place(store, *requests, users=UsersDouble([BOB]))

    assert [outcome.unwrap().status for outcome in (new, again, unknown, other)] == [domain.CONFIRMED] * 4
    assert again.unwrap() == before.unwrap()
    assert unknown.unwrap().user_name == "Bob"
    assert isinstance(missing.error, domain.UnknownCustomer)
    assert isinstance(reused.error, domain.KeyReused)
    events = [(event["type"], event["aggregate_id"]) for event in published(store)]
    placed = [order_id for event_type, order_id in events if event_type == "order_placed"]
    confirmed = [order_id for event_type, order_id in events if event_type == "order_confirmed"]
    expected = sorted(outcome.unwrap().id for outcome in (before, new, unknown, other))
    assert sorted(placed) == sorted(confirmed) == expected


def test_order_cancelled_while_reserving_leaves_its_batch_alone(store):
    class Cancelling(ProductsDouble):
        def reserve_stocks(self, *, orders):
            commands.cancel_order(store, orders[0]["order_id"])
            return super().reserve_stocks(orders=orders)

    requests = [a_request("U002", key=f"k-{n}") for n in range(3)]
    first, *others = place(store, *requests, products=Cancelling(), users=UsersDouble([BOB]))

    assert isinstance(first.error, Refusal)
    assert [outcome.unwrap().status for outcome in others] == [domain.CONFIRMED] * 2
    assert sorted(types(store)) == ["order_cancelled", *["order_confirmed"] * 2, *["order_placed"] * 3]


def test_order_of_a_known_customer_takes_one_write_and_one_call(store, monkeypatch):
    monkeypatch.setattr(commands, "record_pending", None)
    products = ProductsDouble()
    request = a_request(key="k")
    (outcome,) = place(store, request, products=products)
    assert outcome.unwrap().status == domain.CONFIRMED
    assert products.requested == [request.order_id]


@pytest.mark.parametrize(
    ("products", "status"),
    [(ProductsDouble(stock=0), domain.REJECTED), (ProductsDouble(error=Unavailable("down")), domain.PENDING)],
    ids=["refused", "down"],
)
def test_products_is_called_once_whatever_it_answers(store, products, status):
    products.requested.clear()
    request = a_request(items={"P001": 1})
    place(store, request, products=products)
    assert commands.get_order(store, request.order_id).status == status
    assert products.requested == [request.order_id]


def test_order_has_the_customer_as_changed_by_another_instance(store):
    place(store, a_request())
    commands.learn_customer(type(store)(store._engine), a_customer(name="Alicia", version=2))
    for _ in range(2):
        (outcome,) = place(store, a_request())
        assert outcome.unwrap().user_name == "Alicia"
    assert [event["data"]["name"] for event in published(store) if event["type"] == "order_confirmed"] == [
        "Alice", "Alicia", "Alicia",
    ]  # fmt: skip


def test_key_with_another_reservation_is_refused(store):
    products = ProductsDouble()
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    products.reserve_stocks(orders=[{"order_id": first.order_id, "items": lines({"P001": 1})}])
    (outcome,) = place(store, second, products=products)
    assert isinstance(outcome.error, domain.KeyReused)
    assert types(store) == []


def test_two_requests_under_one_key_in_a_batch_are_the_first(store, monkeypatch):
    first, other = a_request(key="k"), a_request(key="k", items={"P002": 5})
    placed, reused, same = place(store, first, other, first)
    assert placed.unwrap() == same.unwrap()
    assert isinstance(reused.error, domain.KeyReused)

    def fail(*_):
        raise Unavailable("down")

    monkeypatch.setattr(commands, "record_confirmed", fail)
    first, other = a_request(key="k-2"), a_request(key="k-2", items={"P002": 5})
    unknown, later, same = place(store, first, other, first)
    assert isinstance(unknown.error, DeadlineExceeded)
    assert isinstance(same.error, DeadlineExceeded)
    assert isinstance(later.error, domain.InProgress)
    assert recovery.unrecorded(store, [first.order_id]) == {first.order_id}


@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("down"), "unavailable"), (RuntimeError("a bug"), "internal")]
)
def test_failure_of_record_first_keeps_the_confirmed_answers(store, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(commands, "record_pending", fail)
    confirmed, refused, unknown = place(
        store, a_request(), a_request(items={"P001": 9}), a_request("U002"), products=ProductsDouble(stock=1)
    )
    assert confirmed.unwrap().status == domain.CONFIRMED
    assert refused.to_wire()["error"]["code"] == unknown.to_wire()["error"]["code"] == code
    with pytest.raises(type(error)):
        place(store, a_request(), products=ProductsDouble(error=Unavailable("down")))


def test_unknown_customer_that_cannot_be_kept_leaves_the_others_alone(store, monkeypatch):
    before, *_ = place(store, a_request(key="before"))
    record_pending = commands.record_pending

    def record_no_customer(store, requests, customers=()):
        if customers:
            raise Unavailable("down")
        return record_pending(store, requests)

    monkeypatch.setattr(commands, "record_pending", record_no_customer)
    products = ProductsDouble(stock=1)
    again, refused, unknown = place(
        store,
        a_request(key="before"),
        a_request(items={"P001": 9}, key="refused"),
        a_request("U002"),
        products=products,
        users=UsersDouble([BOB]),
    )
    assert again.unwrap() == before.unwrap()
    assert refused.error.slug == "out-of-stock"
    assert unknown.error.slug == "unavailable"


def test_cached_customer_gets_a_reservation_without_the_database(store, monkeypatch):
    place(store, a_request())

    def fail(*_, **__):
        raise Unavailable("down")

    monkeypatch.setattr(type(store), "transaction", fail)
    known, unknown = place(store, a_request(), a_request("U002"))
    assert isinstance(known.error, DeadlineExceeded)
    assert isinstance(unknown.error, Unavailable)


def test_cancel_publishes_one_event(store):
    (outcome,) = place(store, a_request())
    order = commands.cancel_order(store, outcome.unwrap().id)
    assert order.status == domain.CANCELLED
    assert types(store)[-1] == "order_cancelled"
    assert commands.cancel_order(store, order.id) == order
    assert types(store).count("order_cancelled") == 1


def test_rejected_order_cannot_be_cancelled(store):
    request = a_request()
    place(store, request, products=ProductsDouble(stock=0))
    with pytest.raises(Refusal, match="rejected"):
        commands.cancel_order(store, request.order_id)


def test_unknown_order_cannot_be_cancelled(store):
    with pytest.raises(domain.UnknownOrder):
        commands.cancel_order(store, "o-404")


def test_unknown_customer_is_fetched_once(store):
    users = UsersDouble([BOB])
    for _ in range(2):
        (outcome,) = place(store, a_request("U002"), users=users)
        assert outcome.unwrap().user_email == "bob@example.com"
    assert users.requested == [["U002"]]


def test_order_of_a_missing_user_is_refused(store):
    (outcome,) = place(store, a_request("U404"))
    assert outcome.error.slug == "not-found"
    assert types(store) == []


def test_order_of_an_unknown_customer_is_unavailable_while_users_is_down(store):
    known, unknown = place(
        store, a_request("U001"), a_request("U002"), users=UsersDouble(error=Unavailable("down"))
    )
    assert known.unwrap().status == domain.CONFIRMED
    assert unknown.error.slug == "unavailable"


def test_older_copy_of_a_customer_is_ignored(store):
    commands.learn_customer(store, a_customer(name="Alicia", version=3))
    commands.learn_customer(store, a_customer(name="Ally", version=2))
    commands.learn_customer(store, a_customer(name="Ally", version=3))
    with store.transaction(read_only=True) as tx:
        assert tx.customers(["U001"])["U001"].name == "Alicia"


def test_orders_are_listed_newest_first_in_pages(store):
    placed = [place(store, a_request())[0].unwrap() for _ in range(5)]
    first = commands.list_orders(store, "U001", None, 3)
    rest = commands.list_orders(store, "U001", (first[-1].created_at, first[-1].id), 3)
    assert [order.id for order in [*first, *rest]] == [order.id for order in reversed(placed)]
    assert commands.list_orders(store, "U002", None, 3) == []


def test_missing_database_server_raises_unavailable(tmp_path):
    from nameko_mesh.sql import open_engine
    from services.orders.store import OrdersStore

    engine = open_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), OrdersStore(engine).transaction() as tx:
        tx.connection.execute(sa.text("SELECT 1"))
