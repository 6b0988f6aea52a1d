"""Placing, settling, cancelling, sweeping: on both databases."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import eventlet
import pytest
import sqlalchemy as sa

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Refused, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import commands, domain, recovery, saga
from services.orders.tables import orders
from services.rules import Refusal
from tests.builders import a_customer, a_request, lines
from tests.integration.services.published import published, types


@pytest.fixture
def store(orders_store):
    with orders_store.transaction() as tx:
        tx.learn(a_customer())
    return orders_store


class Products:
    """Products as a double: it has so many of everything, or it is away."""

    def __init__(self, stock=100, away=None):
        self.stock = stock
        self.away = away
        self.decided = {}
        self.asked = []

    def reserve_stocks(self, *, orders):
        self.asked += [order["order_id"] for order in orders]
        if self.away:
            raise self.away
        return [self._decide(order) for order in orders]

    def _decide(self, order):
        decision, items = self.decided.setdefault(
            order["order_id"], (self._decide_new(order), order["items"])
        )
        if items != order["items"]:
            return {"error": {"code": "idempotency-key-reused", "message": "other items", "field": "items"}}
        return decision

    def _decide_new(self, order):
        if order["order_id"] in self.decided:
            return None
        wanted = sum(item["quantity"] for item in order["items"])
        if wanted > self.stock:
            return {"error": {"code": "out-of-stock", "message": "none left", "field": "quantity"}}
        self.stock -= wanted
        items = [{**item, "name": "Laptop", "unit_price_minor": 500} for item in order["items"]]
        return {"ok": {"order_id": order["order_id"], "items": items, "currency": "USD"}}


class Users:
    def __init__(self, known=(), away=None):
        self.known = {user["id"]: user for user in known}
        self.away = away
        self.asked = []

    def get_users(self, *, user_ids):
        self.asked.append(user_ids)
        if self.away:
            raise self.away
        missing = {"error": {"code": "not-found", "message": "nobody"}}
        return [{"ok": self.known[one]} if one in self.known else missing for one in user_ids]


BOB = {"id": "U002", "name": "Bob", "email": "bob@example.com", "version": 1}


def place(store, *requests, products=None, users=None):
    wishes = [Outcome(request) for request in requests]
    return saga.place_orders(store, products or Products(), users or Users(), wishes)


def due_now(store):
    with store.transaction() as tx:
        tx.connection.execute(orders.update().values(due_at=datetime.now(UTC) - timedelta(seconds=1)))


def test_an_order_is_confirmed_with_prices_and_both_events(store):
    (outcome,) = place(store, a_request(items={"P001": 2}))
    order = outcome.unwrap()
    assert (order.status, order.total_minor, order.currency) == (domain.CONFIRMED, 1000, "USD")
    assert commands.get_order(store, order.id) == order
    assert types(store) == ["order_placed", "order_confirmed"]
    assert [event["aggregate_version"] for event in published(store)] == [1, 2]


def test_an_order_that_can_not_be_had_is_rejected_and_kept(store):
    request = a_request(items={"P001": 2})
    (outcome,) = place(store, request, products=Products(stock=1))
    assert outcome.error.slug == "out-of-stock"
    order = commands.get_order(store, request.order_id)
    assert (order.status, order.reason["code"]) == (domain.REJECTED, "out-of-stock")
    assert types(store) == ["order_placed", "order_rejected"]


def test_the_same_key_is_answered_again_and_reserved_once(store):
    products = Products(stock=10)
    request = a_request(key="k", items={"P001": 2})
    (first,) = place(store, request, products=products)
    (second,) = place(store, request, products=products)
    assert first == second
    assert products.stock == 8
    assert types(store) == ["order_placed", "order_confirmed"]


def test_the_same_key_for_another_order_is_refused(store):
    place(store, a_request(key="k"))
    (outcome,) = place(store, a_request(key="k", items={"P002": 1}))
    assert outcome.error.slug == "idempotency-key-reused"


def test_a_rejected_key_is_rejected_again(store):
    products = Products(stock=0)
    (first,) = place(store, a_request(key="k"), products=products)
    products.stock = 10
    (second,) = place(store, a_request(key="k"), products=products)
    assert str(first.error) == str(second.error)


def test_the_same_key_ten_times_at_once_is_one_order(store):
    products = Products(stock=10)
    pool = eventlet.GreenPool(10)
    outcomes = list(pool.imap(lambda _: place(store, a_request(key="k"), products=products)[0], range(10)))
    confirmed = [outcome for outcome in outcomes if outcome.error is None]
    assert confirmed
    assert {outcome.unwrap().id for outcome in confirmed} == {a_request(key="k").order_id}
    assert {outcome.error.slug for outcome in outcomes if outcome.error} <= {"request-in-progress"}
    assert products.stock == 9


def test_the_same_key_twice_in_one_batch_is_one_order(store):
    products = Products(stock=10)
    first, second = place(store, a_request(key="k"), a_request(key="k"), products=products)
    assert first.unwrap().status == domain.CONFIRMED
    assert second == first
    assert products.stock == 9
    other, _ = place(store, a_request(key="k", items={"P002": 1}), a_request(key="k"), products=products)
    assert other.error.slug == "idempotency-key-reused"


def test_another_body_under_the_key_does_not_hold_the_order_up(store):
    request = a_request(key="k")
    products = Products(away=Unavailable("away"))
    place(store, request, products=products)
    due_now(store)
    (other,) = place(store, a_request(key="k", items={"P002": 1}), products=products)
    assert other.error.slug == "idempotency-key-reused"
    assert recovery.sweep(store, Products()) == 1
    assert commands.get_order(store, request.order_id).status == domain.CONFIRMED


def test_an_order_cancelled_before_it_was_confirmed_is_not_answered_as_placed(store):
    request = a_request(key="k")
    place(store, request, products=Products(away=Unavailable("away")))
    commands.cancel_order(store, request.order_id)
    (again,) = place(store, request)
    assert again.error.slug == "conflict"


def test_a_bad_wish_spoils_no_other(store):
    wishes = [Outcome(error=Refused("validation-failed", "bad", "items")), Outcome(a_request())]
    bad, good = saga.place_orders(store, Products(), Users(), wishes)
    assert bad.error.slug == "validation-failed"
    assert good.unwrap().status == domain.CONFIRMED


def test_orders_of_a_batch_are_each_their_own(store):
    outcomes = place(
        store,
        a_request(items={"P001": 3}),
        a_request(items={"P001": 9}),
        a_request(),
        products=Products(stock=5),
    )
    assert [outcome.error.slug if outcome.error else "ok" for outcome in outcomes] == [
        "ok",
        "out-of-stock",
        "ok",
    ]


def test_a_replay_a_stranger_and_nobody_among_new_orders_are_each_their_own(store):
    before, *_ = place(store, a_request(key="before"))
    requests = [
        a_request(key="new"),
        a_request(key="before"),
        a_request("U002", key="stranger"),
        a_request("U003", key="nobody"),
        a_request(items={"P001": 2}, key="before"),
        a_request(key="new-too"),
    ]

    new, again, stranger, nobody, reused, also = place(store, *requests, users=Users([BOB]))

    assert [one.unwrap().status for one in (new, again, stranger, also)] == [domain.CONFIRMED] * 4
    assert again.unwrap() == before.unwrap()
    assert stranger.unwrap().user_name == "Bob"
    assert isinstance(nobody.error, domain.UnknownCustomer)
    assert isinstance(reused.error, domain.KeyReused)
    of_each = [(event["type"], event["aggregate_id"]) for event in published(store)]
    placed = [order_id for kind, order_id in of_each if kind == "order_placed"]
    confirmed = [order_id for kind, order_id in of_each if kind == "order_confirmed"]
    expected = sorted(one.unwrap().id for one in (before, new, stranger, also))
    assert sorted(placed) == sorted(confirmed) == expected


def test_one_order_cancelled_meanwhile_spoils_none_of_its_batch(store):
    class Cancelling(Products):
        def reserve_stocks(self, *, orders):
            commands.cancel_order(store, orders[0]["order_id"])
            return super().reserve_stocks(orders=orders)

    requests = [a_request("U002", key=f"k-{n}") for n in range(3)]
    first, *others = place(store, *requests, products=Cancelling(), users=Users([BOB]))

    assert isinstance(first.error, Refusal)
    assert [one.unwrap().status for one in others] == [domain.CONFIRMED] * 2
    assert sorted(types(store)) == ["order_cancelled", *["order_confirmed"] * 2, *["order_placed"] * 3]


@pytest.mark.parametrize("away", [Unavailable("away"), DeadlineExceeded("late")])
def test_an_order_is_pending_while_products_is_away_and_then_swept(store, away):
    products = Products(away=away)
    (outcome,) = place(store, a_request(key="k"), products=products)
    assert outcome.unwrap().status == domain.PENDING

    assert recovery.sweep(store, products) == 0  # leased to the request for a while
    due_now(store)
    assert recovery.sweep(store, products) == 1
    assert commands.get_order(store, outcome.unwrap().id).status == domain.PENDING
    products.away = None
    due_now(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, outcome.unwrap().id).status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]


class Slow(Products):
    """Its answer comes when nobody waits for the outcome any longer."""

    def reserve_stocks(self, *, orders):
        answers = super().reserve_stocks(orders=orders)
        deadline.start(time.time() - 1)
        return answers


def test_an_order_whose_time_ends_before_it_is_settled_is_pending_and_then_swept(store):
    products, users = Slow(), Users([BOB])
    request = a_request("U002", key="k")
    (outcome,) = eventlet.spawn(place, store, request, products=products, users=users).wait()
    assert outcome.unwrap().status == domain.PENDING

    due_now(store)
    recovery.sweep(store, Products(stock=products.stock))
    assert commands.get_order(store, outcome.unwrap().id).status == domain.CONFIRMED


def test_an_order_whose_time_ends_before_it_is_written_is_completed_from_what_products_tells(store):
    request, products = a_request(key="k"), Slow()
    (outcome,) = eventlet.spawn(place, store, request, products=products).wait()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert abandoned(store, [request.order_id]) == {request.order_id}

    products = already_asked(products)
    recovery.place_abandoned(store, products, Users(), [request])

    assert commands.get_order(store, request.order_id).status == domain.CONFIRMED
    assert abandoned(store, [request.order_id]) == set()
    assert place(store, request, products=products)[0].unwrap().status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]
    assert products.stock == 99


def already_asked(before):
    """The same products, which keeps to what it has decided."""
    products = Products(stock=before.stock)
    products.decided = before.decided
    return products


def abandoned(store, order_ids):
    """Of what was told of a while ago."""
    return recovery.abandoned(
        store, order_ids, datetime.now(UTC) - timedelta(seconds=recovery.RECORD_TIMEOUT_SECONDS)
    )


def test_an_order_of_a_known_customer_is_written_once_and_products_asked_once(store, monkeypatch):
    monkeypatch.setattr(commands, "record_pending", None)
    products = Products()
    request = a_request(key="k")
    (outcome,) = place(store, request, products=products)
    assert outcome.unwrap().status == domain.CONFIRMED
    assert products.asked == [request.order_id]


@pytest.mark.parametrize(
    ("products", "status"),
    [(Products(stock=0), domain.REJECTED), (Products(away=Unavailable("away")), domain.PENDING)],
    ids=["refused", "away"],
)
def test_products_is_asked_once_whatever_it_says(store, products, status):
    products.asked.clear()
    request = a_request(items={"P001": 1})
    place(store, request, products=products)
    assert commands.get_order(store, request.order_id).status == status
    assert products.asked == [request.order_id]


def test_an_order_that_dies_with_its_stock_reserved_is_completed_from_what_products_tells(store, monkeypatch):
    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    products, requests = Products(), [a_request(key="k-1"), a_request(key="k-2", items={"P001": 2})]
    ids = {request.order_id for request in requests}
    with monkeypatch.context() as patch:
        patch.setattr(commands, "record_confirmed", die)
        with pytest.raises(Died):
            place(store, *requests, products=products)
    assert types(store) == []

    for _ in range(2):  # what is told twice is done once
        missing = abandoned(store, ids)
        recovery.place_abandoned(
            store, products, Users(), [one for one in requests if one.order_id in missing]
        )

    assert {commands.get_order(store, one).status for one in ids} == {domain.CONFIRMED}
    assert sorted(types(store)) == ["order_confirmed"] * 2 + ["order_placed"] * 2
    assert products.stock == 97


def test_what_another_instance_has_written_was_not_abandoned(store):
    request = a_request()
    place(type(store)(store._engine), request)
    assert abandoned(store, [request.order_id, "o-404"]) == {"o-404"}


def test_what_can_not_be_completed_is_told_again(store, monkeypatch):
    def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(commands, "record_confirmed", away)
    with pytest.raises(recovery.OrdersNotRecorded):
        recovery.place_abandoned(store, Products(), Users(), [a_request()])
    assert types(store) == []


def test_the_order_of_a_customer_who_has_changed_elsewhere_has_what_is_new(store):
    place(store, a_request())
    commands.learn_customer(type(store)(store._engine), a_customer(name="Alicia", version=2))
    for _ in range(2):
        (outcome,) = place(store, a_request())
        assert outcome.unwrap().user_name == "Alicia"
    assert [event["data"]["name"] for event in published(store) if event["type"] == "order_confirmed"] == [
        "Alice", "Alicia", "Alicia",
    ]  # fmt: skip


def test_a_key_that_has_just_reserved_another_order_is_not_placed(store):
    products = Products()
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    products.reserve_stocks(orders=[{"order_id": first.order_id, "items": lines({"P001": 1})}])
    (outcome,) = place(store, second, products=products)
    assert isinstance(outcome.error, domain.KeyReused)
    assert types(store) == []


def test_who_uses_a_key_again_does_no_harm_to_the_pending_order_that_has_it(store):
    products = Products(away=Unavailable("away"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 500})
    place(store, first, products=products)
    products.away = None
    other_instance = type(store)(store._engine)
    recovery.lease_due(other_instance, 1)  # it sees that the order is there
    for instance in (store, other_instance):
        (outcome,) = place(instance, second, products=products)
        assert isinstance(outcome.error, domain.KeyReused)

    due_now(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, first.order_id).status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]


def test_an_order_that_another_under_its_key_has_overtaken_gives_back_what_that_has(store):
    products = Products(away=Unavailable("away"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    place(store, first, products=products)
    products.away = None
    (outcome,) = place(type(store)(store._engine), second, products=products)  # as at the same moment
    assert isinstance(outcome.error, domain.KeyReused)

    due_now(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, first.order_id).status == domain.CANCELLED
    assert types(store) == ["order_placed", "order_cancelled"]


def test_a_decision_about_another_order_under_the_key_settles_none(store):
    products = Products(away=Unavailable("away"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    place(store, first, products=products)
    products.away = None
    due_now(store)
    reused, mine = place(type(store)(store._engine), second, first, products=products)
    assert isinstance(reused.error, domain.KeyReused)
    assert mine.error.slug == "conflict"
    assert commands.get_order(store, first.order_id).status == domain.CANCELLED


def test_two_orders_under_one_key_in_one_batch_are_the_first(store, monkeypatch):
    first, other = a_request(key="k"), a_request(key="k", items={"P002": 5})
    one, reused, same = place(store, first, other, first)
    assert one.unwrap() == same.unwrap()
    assert isinstance(reused.error, domain.KeyReused)

    def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(commands, "record_confirmed", away)
    first, other = a_request(key="k-2"), a_request(key="k-2", items={"P002": 5})
    unknown, later, same = place(store, first, other, first)
    assert isinstance(unknown.error, DeadlineExceeded)
    assert isinstance(same.error, DeadlineExceeded)
    assert isinstance(later.error, domain.InProgress)
    assert recovery.unrecorded(store, [first.order_id]) == {first.order_id}


@pytest.mark.parametrize(
    ("error", "told"), [(Unavailable("away"), "unavailable"), (RuntimeError("a bug"), "internal")]
)
def test_a_failure_half_way_spoils_no_answer_that_was_given(store, monkeypatch, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(commands, "record_pending", fail)
    confirmed, refused, stranger = place(
        store, a_request(), a_request(items={"P001": 9}), a_request("U002"), products=Products(stock=1)
    )
    assert confirmed.unwrap().status == domain.CONFIRMED
    assert refused.to_wire()["error"]["code"] == stranger.to_wire()["error"]["code"] == told
    with pytest.raises(type(error)):
        place(store, a_request(), products=Products(away=Unavailable("away")))


def test_a_stranger_who_can_not_be_written_spoils_no_other(store, monkeypatch):
    before, *_ = place(store, a_request(key="before"))
    record_pending = commands.record_pending

    def record_no_customer(store, requests, customers=()):
        if customers:
            raise Unavailable("away")
        return record_pending(store, requests)

    monkeypatch.setattr(commands, "record_pending", record_no_customer)
    products = Products(stock=1)
    again, refused, stranger = place(
        store,
        a_request(key="before"),
        a_request(items={"P001": 9}, key="refused"),
        a_request("U002"),
        products=products,
        users=Users([BOB]),
    )
    assert again.unwrap() == before.unwrap()
    assert refused.error.slug == "out-of-stock"
    assert stranger.error.slug == "unavailable"


def test_customers_who_are_remembered_need_no_database_to_be_reserved_for(store, monkeypatch):
    place(store, a_request())

    def away(*_, **__):
        raise Unavailable("away")

    monkeypatch.setattr(type(store), "transaction", away)
    known, unknown = place(store, a_request(), a_request("U002"))
    assert isinstance(known.error, DeadlineExceeded)
    assert isinstance(unknown.error, Unavailable)


def test_a_retry_drives_an_order_on_that_was_abandoned(store):
    request = a_request(key="k")
    place(store, request, products=Products(away=Unavailable("away")))
    (early,) = place(store, request)
    assert early.error.slug == "request-in-progress"
    with store.transaction() as tx:  # the first request has had its answer by now
        tx.connection.execute(orders.update().values(created_at=datetime.now(UTC) - timedelta(seconds=3)))
    (patient,) = place(store, request)
    assert patient.unwrap().status == domain.PENDING
    due_now(store)
    (late,) = place(store, request)
    assert late.unwrap().status == domain.CONFIRMED


def test_two_sweepers_never_hold_the_same_order(store):
    for number in range(6):
        place(store, a_request(key=f"k{number}"), products=Products(away=Unavailable("away")))
    due_now(store)
    pool = eventlet.GreenPool(3)
    leased = [
        order.id for some in pool.imap(lambda _: recovery.lease_due(store, 2), range(3)) for order, _ in some
    ]
    assert len(leased) == len(set(leased)) == 6


def test_a_cancelled_order_tells_products_and_the_customer(store):
    (outcome,) = place(store, a_request())
    order = commands.cancel_order(store, outcome.unwrap().id)
    assert order.status == domain.CANCELLED
    assert types(store)[-1] == "order_cancelled"
    assert commands.cancel_order(store, order.id) == order
    assert types(store).count("order_cancelled") == 1


def test_a_cancel_wins_over_a_late_answer_of_products(store):
    (outcome,) = place(store, a_request(), products=Products(away=Unavailable("away")))
    pending = outcome.unwrap()
    commands.cancel_order(store, pending.id)
    due_now(store)
    assert recovery.sweep(store, Products()) == 0
    reservation = {"order_id": pending.id, "items": [], "currency": "USD"}
    after = commands.settle(store, {pending.id: pending}, {pending.id: Outcome(reservation)})
    assert after[pending.id].status == domain.CANCELLED


def test_a_rejected_order_can_not_be_cancelled(store):
    request = a_request()
    place(store, request, products=Products(stock=0))
    with pytest.raises(Refusal, match="rejected"):
        commands.cancel_order(store, request.order_id)


def test_an_unknown_order_can_not_be_cancelled(store):
    with pytest.raises(domain.UnknownOrder):
        commands.cancel_order(store, "o-404")


def test_an_unknown_customer_is_asked_about_once_and_then_known(store):
    users = Users([BOB])
    for _ in range(2):
        (outcome,) = place(store, a_request("U002"), users=users)
        assert outcome.unwrap().user_email == "bob@example.com"
    assert users.asked == [["U002"]]


def test_a_user_who_does_not_exist_orders_nothing(store):
    (outcome,) = place(store, a_request("U404"))
    assert outcome.error.slug == "not-found"
    assert types(store) == []


def test_an_unknown_customer_while_users_is_away_is_told_so(store):
    known, unknown = place(store, a_request("U001"), a_request("U002"), users=Users(away=Unavailable("away")))
    assert known.unwrap().status == domain.CONFIRMED
    assert unknown.error.slug == "unavailable"


def test_news_of_a_customer_applies_only_when_newer(store):
    commands.learn_customer(store, a_customer(name="Alicia", version=3))
    commands.learn_customer(store, a_customer(name="Ally", version=2))
    commands.learn_customer(store, a_customer(name="Ally", version=3))
    with store.transaction(read_only=True) as tx:
        assert tx.customers(["U001"])["U001"].name == "Alicia"


def test_orders_are_listed_newest_first_page_by_page(store):
    placed = [place(store, a_request())[0].unwrap() for _ in range(5)]
    first = commands.list_orders(store, "U001", None, 3)
    rest = commands.list_orders(store, "U001", (first[-1].created_at, first[-1].id), 3)
    assert [order.id for order in [*first, *rest]] == [order.id for order in reversed(placed)]
    assert commands.list_orders(store, "U002", None, 3) == []


def test_a_database_that_is_away_is_unavailable_not_a_crash(tmp_path):
    from nameko_mesh.sql import open_engine
    from services.orders.store import OrdersStore

    engine = open_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), OrdersStore(engine).transaction() as tx:
        tx.connection.execute(sa.text("SELECT 1"))
