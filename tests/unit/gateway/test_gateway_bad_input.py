"""Invalid input gets a status, a code and a message that names the field, and calls no service."""

import inspect
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from gateway.schemas import requests

LINE = b'{"product_id": "P001", "quantity": %s}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        (b"0", "greater than or equal to 1"),
        (b"-1", "greater than or equal to 1"),
        (b'"2"', "integer"),
        (b"true", "integer"),
        (b"2.0", "integer"),
        (b"1e9", "integer"),
        (b"1000001", "1000000"),
        (b"123456789012345678901234567890", "1000000"),
        (b"null", "integer"),
        (b"NaN", "integer"),
        (b"Infinity", "integer"),
        (b'{"__type__": "decimal", "__value__": "1"}', "integer"),
    ],
)
async def test_invalid_quantity_is_refused_by_field(http, mesh, alice, is_problem, quantity, reason):
    short_form = await http.post("/orders", content=LINE % quantity, headers={**alice, **JSON})
    long_form = await http.post(
        "/orders", content=b'{"items":[%s]}' % (LINE % quantity), headers={**alice, **JSON}
    )

    assert reason in is_problem(short_form, 422, "validation-failed", "quantity")["detail"]
    assert reason in is_problem(long_form, 422, "validation-failed", "items[0].quantity")["detail"]
    assert mesh.calls == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": []}, "items"),
        ({"items": [{"product_id": "P001", "quantity": 1}] * 10_000}, "items"),
        ({"items": {}}, "items"),
        ({"items": [None]}, "items[0]"),
        ({}, "items"),
        ({"quantity": 1}, "product_id"),
        ({"product_id": "P001"}, "quantity"),
        ({"product_id": "", "quantity": 1}, "product_id"),
        ({"product_id": "P 1", "quantity": 1}, "product_id"),
        ({"product_id": "P001\n", "quantity": 1}, "product_id"),
        ({"product_id": "x" * 65, "quantity": 1}, "product_id"),
        ({"product_id": 1, "quantity": 1}, "product_id"),
        ({"product_id": {"__type__": "date", "__value__": "x"}, "quantity": 1}, "product_id"),
        ({"product_id": "P001", "quantity": 1, "price": 1}, "price"),
        ({"product_id": "P001", "quantity": 1, "__type__": "date"}, "__type__"),
        ({"items": [{"product_id": "P001", "quantity": 1, "__type__": "date"}]}, "items[0].__type__"),
        ({"items": [{"product_id": "P001", "quantity": 1}], "product_id": "P001"}, "product_id"),
        ({"product_id": "P001", "quantity": 1, "user_id": 5}, "user_id"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
async def test_invalid_order_is_refused_by_field(http, mesh, alice, is_problem, body, field):
    is_problem(await http.post("/orders", json=body, headers=alice), 422, "validation-failed", field)
    assert mesh.calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"product_id": "P001", "quantity": 1}}',
        b"\xff\xfe",
        b'{"product_id": "P\xff", "quantity": 1}',
        b'{"product_id": "P\\ud800", "quantity": 1}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)
async def test_malformed_json_is_refused(http, mesh, alice, is_problem, body):
    response = await http.post("/orders", content=body, headers={**alice, **JSON})

    is_problem(response, 422, "validation-failed", "body")
    assert mesh.calls == []


async def test_listed_errors_are_limited_to_twenty(http, alice, is_problem):
    response = await http.post("/orders", json={"items": [{"bad": 1}] * 100}, headers=alice)

    assert len(is_problem(response, 422, "validation-failed")["errors"]) == 20


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_body_without_the_content_type_of_json_is_refused(http, mesh, alice, is_problem, content_type):
    headers = {**alice, **({"Content-Type": content_type} if content_type else {})}

    is_problem(
        await http.post("/orders", content=LINE % b"1", headers=headers), 415, "unsupported-media-type"
    )
    assert mesh.calls == []


async def test_content_type_may_name_a_charset(http, mesh, alice, an_order):
    mesh.results["orders.place_orders"] = [{"ok": an_order()}]
    headers = {**alice, "Content-Type": "application/json; charset=utf-8"}

    assert (await http.post("/orders", content=LINE % b"1", headers=headers)).status_code == 201


async def test_body_with_a_content_length_over_the_limit_is_refused(http, mesh, alice, is_problem):
    response = await http.post("/orders", content=b" " * 1_000_001, headers={**alice, **JSON})

    is_problem(response, 413, "payload-too-large")
    assert mesh.calls == []


async def test_too_large_body_is_refused_before_it_is_sent(asgi, is_problem):
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        yield b" " * 2_000_000

    headers = {**JSON, "Content-Length": "2000000", "Expect": "100-continue"}
    is_problem(await asgi.post("/orders", content=body(), headers=headers), 413, "payload-too-large")
    assert sent == 0


async def test_streamed_body_over_the_limit_is_refused(asgi, mesh, alice, is_problem):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 65536
            yield b" " * 65536

    response = await asgi.post("/orders", content=endless(), headers={**alice, **JSON})

    is_problem(response, 413, "payload-too-large")
    assert sent < 10_000_000


async def test_body_is_not_parsed_without_a_token(http, is_problem):
    is_problem(await http.post("/orders", content=b"{", headers=JSON), 401, "unauthenticated")


@pytest.mark.parametrize(
    "path", ["/products/%20", "/products/" + "x" * 65, "/products/a%00b", "/products/%ff"]
)
async def test_malformed_product_id_is_refused_without_a_call(http, mesh, is_problem, path):
    is_problem(await http.get(path), 422, "validation-failed", "product_id")
    assert mesh.calls == []


async def test_unknown_path_is_not_found(http, is_problem):
    is_problem(await http.get("/nothing"), 404, "not-found")


@pytest.mark.parametrize(
    "path", ["/orders/a b", "/orders/a%0a/cancel", "/orders/%2e%2e%20/events", "/users/%7f"]
)
async def test_malformed_id_is_refused_without_a_call(http, mesh, alice, is_problem, path):
    method = "POST" if path.endswith("cancel") else "GET"

    field = "user_id" if path.startswith("/users") else "order_id"
    is_problem(await http.request(method, path, headers=alice), 422, "validation-failed", field)
    assert mesh.calls == []


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/orders", "GET, POST"),
        ("/users/me", "GET, PATCH"),
        ("/products/P001/restock", "POST"),
        ("/docs", "GET"),
    ],
)
async def test_unsupported_method_is_refused_with_the_allowed_methods(http, is_problem, path, methods):
    response = await http.delete(path)

    assert path in is_problem(response, 405, "method-not-allowed")["detail"]
    assert response.headers["allow"] == methods


def test_request_models_accept_no_arbitrary_json():
    """All models are strict and refuse unknown fields. So no `__type__` reaches a service."""
    bodies = [
        model
        for model in vars(requests).values()
        if inspect.isclass(model) and issubclass(model, requests.Request)
    ]
    assert len(bodies) > 6
    for model in bodies:
        assert (model.model_config.get("extra"), model.model_config.get("strict")) == ("forbid", True), model
        schema = str(model.model_json_schema())
        assert "'additionalProperties': True" not in schema, model
        for name, field in model.model_fields.items():
            plain = str(field.annotation).replace("gateway.schemas.requests.", "")
            assert not any(word in plain for word in ("dict", "Any", "object")), (model, name)
    assert issubclass(requests.Request, BaseModel)
