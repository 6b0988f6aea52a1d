"""Recovery of pending orders and of reservations without an order, on both databases."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import eventlet
import pytest

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import commands, domain, recovery
from services.orders.tables import orders
from tests.builders import a_request
from tests.integration.services.doubles import BOB, ProductsDouble, UsersDouble, end_leases, place
from tests.integration.services.published import types


@pytest.fixture
def store(orders_store):
    return orders_store


class SlowProducts(ProductsDouble):
    """Products whose answer comes after the deadline."""

    def reserve_stocks(self, *, orders):
        answers = super().reserve_stocks(orders=orders)
        deadline.start(time.time() - 1)
        return answers


def test_reused_key_does_not_delay_the_pending_order(store):
    request = a_request(key="k")
    products = ProductsDouble(error=Unavailable("down"))
    place(store, request, products=products)
    end_leases(store)
    (other,) = place(store, a_request(key="k", items={"P002": 1}), products=products)
    assert other.error.slug == "idempotency-key-reused"
    assert recovery.sweep(store, ProductsDouble()) == 1
    assert commands.get_order(store, request.order_id).status == domain.CONFIRMED


@pytest.mark.parametrize("error", [Unavailable("down"), DeadlineExceeded("late")])
def test_order_is_pending_while_products_is_down_and_swept_later(store, error):
    products = ProductsDouble(error=error)
    (outcome,) = place(store, a_request(key="k"), products=products)
    assert outcome.unwrap().status == domain.PENDING

    assert recovery.sweep(store, products) == 0  # the request still has the lease
    end_leases(store)
    assert recovery.sweep(store, products) == 1
    assert commands.get_order(store, outcome.unwrap().id).status == domain.PENDING
    products.error = None
    end_leases(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, outcome.unwrap().id).status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]


def test_deadline_before_settling_leaves_a_pending_order_to_the_sweep(store):
    products, users = SlowProducts(), UsersDouble([BOB])
    request = a_request("U002", key="k")
    (outcome,) = eventlet.spawn(place, store, request, products=products, users=users).wait()
    assert outcome.unwrap().status == domain.PENDING

    end_leases(store)
    recovery.sweep(store, ProductsDouble(stock=products.left()))
    assert commands.get_order(store, outcome.unwrap().id).status == domain.CONFIRMED


def test_deadline_before_recording_leaves_an_order_to_recovery(store):
    request, products = a_request(key="k"), SlowProducts()
    (outcome,) = eventlet.spawn(place, store, request, products=products).wait()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert abandoned(store, [request.order_id]) == {request.order_id}

    products = products.copy()
    recovery.place_abandoned(store, products, UsersDouble(), [request])

    assert commands.get_order(store, request.order_id).status == domain.CONFIRMED
    assert abandoned(store, [request.order_id]) == set()
    assert place(store, request, products=products)[0].unwrap().status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]
    assert products.left() == 99


def abandoned(store, order_ids):
    """The abandoned orders among orders that were reserved long enough ago."""
    return recovery.abandoned(
        store, order_ids, datetime.now(UTC) - timedelta(seconds=recovery.RECORD_TIMEOUT_SECONDS)
    )


def test_crash_after_reserving_leaves_orders_that_recovery_places_once(store, monkeypatch):
    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    products, requests = ProductsDouble(), [a_request(key="k-1"), a_request(key="k-2", items={"P001": 2})]
    ids = {request.order_id for request in requests}
    with monkeypatch.context() as patch:
        patch.setattr(commands, "record_confirmed", die)
        with pytest.raises(Died):
            place(store, *requests, products=products)
    assert types(store) == []

    for _ in range(2):  # the second time places nothing
        missing = abandoned(store, ids)
        recovery.place_abandoned(
            store, products, UsersDouble(), [request for request in requests if request.order_id in missing]
        )

    assert {commands.get_order(store, order_id).status for order_id in ids} == {domain.CONFIRMED}
    assert sorted(types(store)) == ["order_confirmed"] * 2 + ["order_placed"] * 2
    assert products.left() == 97


def test_order_recorded_by_another_instance_is_not_abandoned(store):
    request = a_request()
    place(type(store)(store._engine), request)
    assert abandoned(store, [request.order_id, "o-404"]) == {"o-404"}


def test_abandoned_order_that_cannot_be_recorded_raises(store, monkeypatch):
    def fail(*_):
        raise Unavailable("down")

    monkeypatch.setattr(commands, "record_confirmed", fail)
    with pytest.raises(recovery.OrdersNotRecorded):
        recovery.place_abandoned(store, ProductsDouble(), UsersDouble(), [a_request()])
    assert types(store) == []


def test_reused_key_leaves_the_pending_order_alone(store):
    products = ProductsDouble(error=Unavailable("down"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 500})
    place(store, first, products=products)
    products.error = None
    other_instance = type(store)(store._engine)
    recovery.lease_due(other_instance, 1)  # so that its cache has the order
    for instance in (store, other_instance):
        (outcome,) = place(instance, second, products=products)
        assert isinstance(outcome.error, domain.KeyReused)

    end_leases(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, first.order_id).status == domain.CONFIRMED
    assert types(store) == ["order_placed", "order_confirmed"]


def test_pending_order_overtaken_by_its_key_is_cancelled(store):
    products = ProductsDouble(error=Unavailable("down"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    place(store, first, products=products)
    products.error = None
    (outcome,) = place(type(store)(store._engine), second, products=products)  # whose cache lacks the order
    assert isinstance(outcome.error, domain.KeyReused)

    end_leases(store)
    recovery.sweep(store, products)

    assert commands.get_order(store, first.order_id).status == domain.CANCELLED
    assert types(store) == ["order_placed", "order_cancelled"]


def test_decision_about_a_reused_key_settles_no_other_order(store):
    products = ProductsDouble(error=Unavailable("down"))
    first, second = a_request(key="k"), a_request(key="k", items={"P002": 5})
    place(store, first, products=products)
    products.error = None
    end_leases(store)
    reused, mine = place(type(store)(store._engine), second, first, products=products)
    assert isinstance(reused.error, domain.KeyReused)
    assert mine.error.slug == "conflict"
    assert commands.get_order(store, first.order_id).status == domain.CANCELLED


def test_repeated_key_settles_a_pending_order_whose_lease_is_over(store):
    request = a_request(key="k")
    place(store, request, products=ProductsDouble(error=Unavailable("down")))
    (early,) = place(store, request)
    assert early.error.slug == "request-in-progress"
    with store.transaction() as tx:  # so that the first request has had its answer
        tx.connection.execute(orders.update().values(created_at=datetime.now(UTC) - timedelta(seconds=3)))
    (patient,) = place(store, request)
    assert patient.unwrap().status == domain.PENDING
    end_leases(store)
    (late,) = place(store, request)
    assert late.unwrap().status == domain.CONFIRMED


def test_concurrent_sweeps_never_lease_the_same_order(store):
    for number in range(6):
        place(store, a_request(key=f"k{number}"), products=ProductsDouble(error=Unavailable("down")))
    end_leases(store)
    pool = eventlet.GreenPool(3)
    leased = [
        order.id
        for batch in pool.imap(lambda _: recovery.lease_due(store, 2), range(3))
        for order, _ in batch
    ]
    assert len(leased) == len(set(leased)) == 6


def test_cancelled_order_ignores_a_late_reservation(store):
    (outcome,) = place(store, a_request(), products=ProductsDouble(error=Unavailable("down")))
    pending = outcome.unwrap()
    commands.cancel_order(store, pending.id)
    end_leases(store)
    assert recovery.sweep(store, ProductsDouble()) == 0
    reservation = {"order_id": pending.id, "items": [], "currency": "USD"}
    after = commands.settle(store, {pending.id: pending}, {pending.id: Outcome(reservation)})
    assert after[pending.id].status == domain.CANCELLED


def test_sweep_goes_on_until_a_batch_is_not_full(monkeypatch):
    counts = [recovery.BATCH_SIZE, recovery.BATCH_SIZE, 3, 0]
    monkeypatch.setattr(recovery, "sweep", lambda store, products: counts.pop(0))
    recovery.sweep_all(None, None)
    assert counts == [0]
