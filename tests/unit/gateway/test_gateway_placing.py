"""Placing orders."""

import time
from typing import Any

import pytest

from nameko_mesh.errors import (
    DeadlineExceeded,
    Disconnected,
    Overloaded,
    Refused,
    RemoteFault,
    UnknownService,
)

LINE = {"product_id": "P001", "quantity": 2}


def place_returns(mesh, outcome: Any) -> None:
    mesh.results["orders.place_orders"] = [outcome]


async def test_confirmed_order_is_created_with_a_location(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order(order_id="o-7")})

    response = await http.post("/orders", json={"items": [LINE]}, headers=alice)

    assert response.status_code == 201
    assert response.headers["location"] == "/orders/o-7"
    assert response.json() == an_order(order_id="o-7")
    [order] = mesh.last["orders"]
    assert order["user_id"] == "U001"
    assert order["items"] == [LINE]


async def test_pending_order_is_accepted(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order(order_id="o-7", status="pending")})

    response = await http.post("/orders", json={"items": [LINE]}, headers=alice)

    assert response.status_code == 202
    assert response.headers["location"] == "/orders/o-7"
    assert response.json()["status"] == "pending"


async def test_short_form_is_an_order_of_one_line(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order()})

    response = await http.post("/orders", json=LINE, headers=alice)

    assert response.status_code == 201
    assert mesh.last["orders"][0]["items"] == [LINE]


async def test_repeated_product_reaches_the_service_as_two_lines(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order()})

    await http.post("/orders", json={"items": [LINE, LINE]}, headers=alice)

    assert mesh.last["orders"][0]["items"] == [LINE, LINE]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("out-of-stock", 409),
        ("not-found", 404),
        ("request-in-progress", 409),
        ("idempotency-key-reused", 422),
        ("validation-failed", 422),
        ("unavailable", 503),
        ("deadline-exceeded", 504),
    ],
)
async def test_refused_order_has_the_status_of_its_code(http, mesh, alice, is_problem, code, status):
    place_returns(mesh, {"error": {"code": code, "message": "P001: no", "field": "items[0].product_id"}})

    response = await http.post("/orders", json=LINE, headers=alice)

    problem = is_problem(response, status, code)
    assert problem["detail"].startswith("items[0].product_id: P001: no")
    assert problem["errors"] == [{"field": "items[0].product_id", "message": "P001: no"}]


async def test_replay_of_a_rejected_order_is_refused_again(http, mesh, alice, is_problem, an_order):
    reason = {"code": "out-of-stock", "message": "P001 is short"}
    place_returns(mesh, {"ok": an_order(status="rejected", reason=reason)})

    response = await http.post("/orders", json=LINE, headers=alice)

    assert is_problem(response, 409, "out-of-stock")["detail"] == "P001 is short"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeadlineExceeded("late"), 504, "deadline-exceeded"),
        (Disconnected("gone"), 503, "unavailable"),
        (UnknownService("orders"), 503, "unavailable"),
        (Overloaded("full"), 503, "unavailable"),
        (RemoteFault("KeyError", "a secret"), 503, "unavailable"),
        (Refused("a-code-of-tomorrow", "a secret"), 503, "unavailable"),
    ],
)
async def test_response_to_an_unknown_outcome_names_the_idempotency_key(
    http, mesh, alice, is_problem, error, status, code
):
    mesh.results["orders.place_orders"] = error

    response = await http.post("/orders", json=LINE, headers=alice)

    problem = is_problem(response, status, code)
    assert "Idempotency-Key" in problem["detail"]
    assert "secret" not in response.text
    assert response.headers["idempotency-key"] == mesh.last["orders"][0]["idempotency_key"]
    assert int(response.headers["retry-after"]) >= 1


async def test_idempotency_key_of_the_client_is_used_and_returned(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order()})

    response = await http.post(
        "/orders", json=LINE, headers={**alice, "Idempotency-Key": "a b".replace(" ", "~")}
    )

    assert mesh.last["orders"][0]["idempotency_key"] == "a~b"
    assert response.headers["idempotency-key"] == "a~b"


async def test_orders_without_a_key_get_different_keys(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order()})

    await http.post("/orders", json=LINE, headers=alice)
    await http.post("/orders", json=LINE, headers=alice)

    first, second = (kwargs["orders"][0]["idempotency_key"] for _, kwargs in mesh.calls)
    assert first != second


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "caf\u00e9", "tab\there"])
async def test_invalid_idempotency_key_is_refused_by_field(http, mesh, alice, is_problem, key):
    headers = [*alice.items(), ("Idempotency-Key", key.encode("latin-1"))]

    response = await http.post("/orders", json=LINE, headers=headers)

    is_problem(response, 422, "validation-failed", "Idempotency-Key")
    assert mesh.calls == []


async def test_blank_idempotency_key_is_refused_by_field(asgi, mesh, alice, is_problem):
    response = await asgi.post("/orders", json=LINE, headers={**alice, "Idempotency-Key": " "})

    is_problem(response, 422, "validation-failed", "Idempotency-Key")
    assert mesh.calls == []


async def test_replayed_response_is_equal_to_the_byte(http, mesh, alice, an_order):
    place_returns(mesh, {"ok": an_order()})
    headers = {**alice, "Idempotency-Key": "k"}

    first = await http.post("/orders", json=LINE, headers=headers)
    second = await http.post("/orders", json=LINE, headers=headers)

    assert first.content == second.content
    assert first.status_code == second.status_code


async def test_user_cannot_order_for_another_user(http, mesh, alice, is_problem):
    response = await http.post("/orders", json={**LINE, "user_id": "U002"}, headers=alice)

    assert "user_id" in is_problem(response, 403, "forbidden")["detail"]
    assert mesh.calls == []


async def test_user_may_name_itself_and_an_admin_any_user(http, mesh, alice, admin, an_order):
    place_returns(mesh, {"ok": an_order()})

    own = await http.post("/orders", json={**LINE, "user_id": "U001"}, headers=alice)
    for_bob = await http.post("/orders", json={**LINE, "user_id": "U002"}, headers=admin)

    assert (own.status_code, for_bob.status_code) == (201, 201)
    assert [kwargs["orders"][0]["user_id"] for _, kwargs in mesh.calls] == ["U001", "U002"]


async def test_call_carries_the_request_id_and_the_deadline(http, mesh, alice, an_order, settings):
    place_returns(mesh, {"ok": an_order()})

    response = await http.post("/orders", json=LINE, headers={**alice, "X-Request-Id": "r-1"})

    assert response.headers["x-request-id"] == "r-1"
    assert mesh.contexts == [{"request_id": "r-1"}]
    assert 0 < mesh.deadlines[0] - time.time() <= settings.GATEWAY_DEADLINE


@pytest.mark.parametrize(
    "result",
    [[], None, "x", [{}], [{"ok": None}], [{"ok": {"status": 1}}], [{"error": {"code": 1}}], {"ok": 1}],
)
async def test_malformed_result_is_unavailable(http, mesh, alice, is_problem, result):
    mesh.results["orders.place_orders"] = result

    is_problem(await http.post("/orders", json=LINE, headers=alice), 503, "unavailable")
