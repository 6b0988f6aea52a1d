"""Entrypoints decode, delegate and encode: tested with Nameko's worker_factory."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from nameko.testing.services import worker_factory

from nameko_mesh.errors import Refused, Unavailable
from nameko_mesh.outcome import Outcome
from services.orders import domain as orders
from services.orders import remote, saga, wire
from services.orders.service import OrdersService
from services.products import reservations
from services.products.service import ProductsService
from services.rules import Invalid
from services.users.service import UsersService
from tests.builders import NOON, a_pending_order, a_product, a_request, a_reservation, a_user


def test_product_is_encoded_with_major_and_minor_price():
    service = worker_factory(ProductsService)
    with patch("services.products.commands.get_products", return_value=[Outcome(a_product())]):
        assert service.get_product("P001") == {
            "id": "P001",
            "name": "Laptop",
            "price": 1200.5,
            "price_minor": 120050,
            "currency": "USD",
            "stock": 10,
            "version": 1,
        }


def test_malformed_order_of_a_batch_leaves_the_others_alone():
    service = worker_factory(ProductsService)
    reserved = reservations.Reservation(
        order_id="o-2",
        status=reservations.RESERVED,
        lines=(reservations.ReservedLine(product_id="P001", name="Laptop", quantity=1, unit_price_minor=5),),
        currency="USD",
    )
    orders_asked = ["nonsense", {"order_id": "o-2", "items": [{"product_id": "P001", "quantity": 1}]}]
    with patch("services.products.commands.reserve_stocks", return_value=[reserved]) as reserve:
        answers = service.reserve_stocks(orders_asked)

    assert answers[0]["error"]["code"] == "validation-failed"
    assert answers[1]["ok"]["items"][0]["unit_price_minor"] == 5
    assert [order.order_id for order in reserve.call_args.args[1]] == ["o-2"]


def test_reserve_after_cancel_is_refused():
    service = worker_factory(ProductsService)
    tombstone = reservations.Reservation(order_id="o-1", status=reservations.RELEASED)
    with (
        patch("services.products.commands.reserve_stocks", return_value=[tombstone]),
        pytest.raises(reservations.ReservationReleased),
    ):
        service.reserve_stock("o-1", [{"product_id": "P001", "quantity": 1}])


def test_user_is_encoded_without_the_password():
    service = worker_factory(UsersService)
    with patch("services.users.commands.get_users", return_value=[Outcome(a_user())]):
        assert service.get_user("U001") == {
            "id": "U001",
            "name": "Alice",
            "email": "alice@example.com",
            "role": "user",
            "version": 1,
            "created_at": "2026-01-02T12:00:00.000000Z",
        }


def test_pending_order_is_encoded_without_prices():
    service = worker_factory(OrdersService)
    with patch("services.orders.commands.get_order", return_value=a_pending_order()):
        order = service.get_order("o-1")
    assert order["status"] == "pending"
    assert order["items"] == [
        {
            "product": {"id": "P001", "name": None},
            "quantity": 1,
            "unit_price_minor": None,
            "line_total_minor": None,
        }
    ]
    assert (order["total_price"], order["total_minor"], order["currency"]) == (None, None, None)


class FakeProducts:
    """Products with one answer to each request."""

    def __init__(self, answer):
        self.answer = answer
        self.requested = []

    def reserve_stocks(self, *, orders):
        self.requested.append(orders)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in orders]


@pytest.mark.parametrize(
    "answer",
    [
        Unavailable("products is down"),
        {"error": {"code": "unavailable", "message": "the database does not answer"}},
        {"error": {"code": "internal", "message": "internal error"}},
    ],
)
def test_order_without_a_decision_of_products_stays_pending(answer):
    order = a_pending_order()
    after = saga.reserve_and_settle(None, FakeProducts(answer), [order])
    assert after == {order.id: order}


def test_order_with_a_decision_of_products_is_settled():
    order = a_pending_order(a_request())
    confirmed = orders.confirmed(order, a_reservation(order.id), order.created_at)
    with patch("services.orders.commands.settle", return_value={order.id: confirmed}) as settle:
        after = saga.reserve_and_settle(None, FakeProducts({"ok": a_reservation(order.id)}), [order])
    assert after[order.id].status == orders.CONFIRMED
    assert settle.call_args.args[2][order.id].unwrap() == a_reservation(order.id)


def test_reserved_order_that_nobody_recorded_is_placed():
    service = worker_factory(OrdersService)
    requests = [a_request(key="k-1", items={"P001": 2, "P002": 1}), a_request(key="k-2")]
    reserved = [
        {
            "order_id": request.order_id,
            "user_id": request.user_id,
            "items": [{"product_id": line.product_id, "quantity": line.quantity} for line in request.lines],
        }
        for request in requests
    ]
    moments = ("2026-01-02T12:00:00.000000Z", "2026-01-02T12:00:01.000000Z")
    events = [
        {"occurred_at": moment, "data": {"orders": [order]}}
        for moment, order in zip(moments, reserved, strict=True)
    ]
    missing = {requests[0].order_id}
    with (
        patch("services.orders.recovery.abandoned", return_value=missing) as abandoned,
        patch("services.orders.recovery.place_abandoned") as place_abandoned,
    ):
        service.on_stocks_reserved(events)
    _, ids, reserved_at = abandoned.call_args.args
    assert set(ids) == {request.order_id for request in requests}
    assert reserved_at == NOON + timedelta(seconds=1)
    assert place_abandoned.call_args.args[3] == [requests[0]]


def test_unavailable_users_does_not_make_a_customer_unknown():
    class Away:
        def get_users(self, *, user_ids):
            raise Unavailable("users is down")

    customers, failed = remote.fetch_customers(Away(), {0: a_request("U001")})
    assert customers == []
    assert isinstance(failed[0].error, Unavailable)


def test_customer_whom_users_does_not_know_is_unknown():
    class Knowing:
        def get_users(self, *, user_ids):
            return [{"error": {"code": "not-found", "message": "there is no such user"}}]

    customers, failed = remote.fetch_customers(Knowing(), {3: a_request("U404")})
    assert customers == []
    assert isinstance(failed[3].error, orders.UnknownCustomer)


def test_place_order_raises_a_refusal_with_its_slug():
    service = worker_factory(OrdersService)
    refusal = Outcome(error=Refused("out-of-stock", "none left", "quantity"))
    with (
        patch("services.orders.saga.place_orders", return_value=[refusal]),
        pytest.raises(Refused) as refused,
    ):
        service.place_order("U001", [{"product_id": "P001", "quantity": 1}])
    assert refused.value.slug == "out-of-stock"


@pytest.mark.parametrize(
    "key",
    [
        ["2020-01-01T00:00:00", "x"],
        ["0001-01-01T00:00:00+23:59", "x"],
        ["x", "y"],
        ["2020-01-01T00:00:00Z", "a b"],
    ],
)
def test_forged_cursor_is_refused(key):
    with pytest.raises(Invalid) as refused:
        wire.position_from_cursor(key)
    assert refused.value.field == "cursor"
