"""Invalid input through the whole mesh gets a status, a code and a field, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

NOT_VALID = (422, "validation-failed")
BODIES: dict[str, tuple[Any, tuple[int, str], str]] = {
    "unknown product": ({"product_id": "P404", "quantity": 1}, (404, "not-found"), "product"),
    "quantity 0": ({"product_id": "P002", "quantity": 0}, NOT_VALID, "quantity"),
    "negative": ({"product_id": "P002", "quantity": -1}, NOT_VALID, "quantity"),
    "a string": ({"product_id": "P002", "quantity": "1"}, NOT_VALID, "quantity"),
    "1e9": ({"product_id": "P002", "quantity": 1e9}, NOT_VALID, "quantity"),
    "a billion": ({"product_id": "P002", "quantity": 10**9}, NOT_VALID, "quantity"),
    "too many lines": (
        {"items": [{"product_id": f"P{n}", "quantity": 1} for n in range(10**4)]},
        NOT_VALID,
        "items",
    ),
    "an empty list": ({"items": []}, NOT_VALID, "items"),
    "another user's id": (
        {"product_id": "P002", "quantity": 1, "user_id": "U002"},
        (403, "forbidden"),
        "user_id",
    ),
    "an unknown field": ({"product_id": "P002", "quantity": 1, "price": 1}, NOT_VALID, "price"),
    "__type__": (
        {"product_id": {"__type__": "date", "__value__": "x"}, "quantity": 1},
        NOT_VALID,
        "product_id",
    ),
}
RAW: dict[str, tuple[bytes, int, str]] = {
    "broken JSON": (b'{"product_id": "P002", ', 422, "validation-failed"),
    "not UTF-8": (b'{"product_id": "\xff"}', 422, "validation-failed"),
    "over 1 MB": (b'{"product_id": "' + b"x" * 1_100_000 + b'"}', 413, "payload-too-large"),
}


@pytest.fixture
def untouched(mesh):
    """Check that the stock and the orders are the same before and after the test."""

    def state():
        orders = mesh.http.get("/orders?limit=100", headers=mesh.as_user("alice")).json()["items"]
        return mesh.stock("P002"), [order["order_id"] for order in orders if order["status"] != "rejected"]

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize(("body", "refusal", "field"), BODIES.values(), ids=BODIES)
def test_invalid_order_is_refused_by_field(mesh, untouched, body, refusal, field):
    response = mesh.http.post("/orders", json=body, headers=mesh.as_user("alice"))
    assert (response.status_code, response.json()["code"]) == refusal, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["X-Request-Id"]
    assert field in response.text


@pytest.mark.parametrize(("body", "status", "code"), RAW.values(), ids=RAW)
def test_malformed_body_is_refused(mesh, untouched, body, status, code):
    headers = {**mesh.as_user("alice"), "Content-Type": "application/json"}
    response = mesh.http.post("/orders", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


@pytest.mark.parametrize("token", [None, "junk", "a.b.c"])
def test_order_without_a_valid_token_is_refused(mesh, untouched, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    response = mesh.http.post("/orders", json={"product_id": "P002", "quantity": 1}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_repeated_product_becomes_one_line(mesh):
    items = [{"product_id": "P002", "quantity": 1}] * 2
    response = mesh.http.post("/orders", json={"items": items}, headers=mesh.as_user("alice"))
    (line,) = response.json()["items"]
    assert line["quantity"] == 2


def test_change_of_a_product_by_a_user_is_forbidden(mesh, untouched):
    body = {"name": "Mine", "price_minor": 1, "stock": 1}
    assert mesh.http.post("/products", json=body, headers=mesh.as_user("alice")).status_code == 403
    restock = mesh.http.post("/products/P002/restock", json={"quantity": 5}, headers=mesh.as_user("bob"))
    assert restock.json()["code"] == "forbidden"


def test_wrong_password_and_unknown_account_look_the_same(mesh):
    wrong = mesh.http.post(
        "/auth/token", data={"username": "alice@example.com", "password": "wrong password"}
    )
    unknown = mesh.http.post(
        "/auth/token", data={"username": "nobody@example.com", "password": "wrong password"}
    )
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == unknown.json()["detail"]
