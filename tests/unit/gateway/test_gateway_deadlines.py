"""`X-Request-Timeout`: the client's timeout becomes the deadline of every call."""

import time

import pytest

from nameko_mesh.errors import DeadlineExceeded

LINE = {"product_id": "P001", "quantity": 1}
NEW_PRODUCT = {"name": "Laptop", "price_minor": 120050, "stock": 10}
NEW_USER = {"name": "Eve", "email": "eve@example.com", "password": "long enough"}
LOGIN = {"username": "alice@example.com", "password": "long enough"}
USER = {"id": "U001", "role": "user"}
PRODUCT = {"id": "P001", "name": "Laptop"}
PAGE = {"items": [], "next_cursor": None}

ROUTES = {
    "GET /products": {},
    "GET /products/P001": {},
    "POST /products": {"json": NEW_PRODUCT},
    "PATCH /products/P001": {"json": {"price_minor": 1}},
    "POST /products/P001/restock": {"json": {"quantity": 1}},
    "POST /users": {"json": NEW_USER},
    "GET /users/me": {},
    "PATCH /users/me": {"json": {"name": "Alice"}},
    "POST /auth/token": {"data": LOGIN},
    "POST /orders": {"json": LINE},
    "GET /orders": {},
    "GET /orders/o-1": {},
    "POST /orders/o-1/cancel": {},
    "GET /orders/o-1/events": {},
}
every_route = pytest.mark.parametrize(("route", "content"), ROUTES.items(), ids=ROUTES)


@pytest.fixture
def send_to(http, mesh, admin, an_order):
    """Send a request to a route. Every service call succeeds."""
    order = an_order(status="cancelled")
    mesh.results |= {
        "products.list_products": PAGE,
        "products.get_products": [{"ok": PRODUCT}],
        "products.create_product": PRODUCT,
        "products.update_product": PRODUCT,
        "products.restock": PRODUCT,
        "users.register_user": USER,
        "users.get_user": USER,
        "users.update_user": USER,
        "users.authenticate_user": USER,
        "orders.place_orders": [{"ok": order}],
        "orders.list_orders": PAGE,
        "orders.get_order": order,
        "orders.cancel_order": order,
    }

    async def send(route, content, seconds):
        method, path = route.split()
        headers = {**admin, "X-Request-Timeout": seconds}
        return await http.request(method, path, headers=headers, **content)

    return send


@every_route
async def test_client_timeout_is_the_deadline_of_every_call(send_to, mesh, route, content):
    began = time.time()

    response = await send_to(route, content, "0.25")

    assert response.is_success, response.text
    assert all(began + 0.25 <= deadline <= time.time() + 0.25 for deadline in mesh.deadlines)
    assert mesh.deadlines


@every_route
async def test_long_client_timeout_is_cut_to_the_gateways_deadline(send_to, mesh, settings, route, content):
    began = time.time()

    response = await send_to(route, content, "999999999")

    assert response.is_success, response.text
    latest = time.time() + settings.GATEWAY_DEADLINE
    assert all(began + settings.GATEWAY_DEADLINE <= deadline <= latest for deadline in mesh.deadlines)


@every_route
async def test_invalid_timeout_is_refused_before_any_call(send_to, mesh, is_problem, route, content):
    is_problem(await send_to(route, content, "soon"), 422, "validation-failed", "X-Request-Timeout")
    assert mesh.calls == []


@pytest.mark.parametrize(
    "given",
    [
        "",
        "0",
        "0.0",
        "-1",
        "+1",
        "1s",
        "1e3",
        "1,5",
        ".5",
        "1.",
        "inf",
        "nan",
        "0x10",
        "1 2",
        "9" * 5000,
    ],
)
async def test_malformed_timeout_is_refused(http, mesh, is_problem, given):
    response = await http.get("/products/P001", headers={"X-Request-Timeout": given})

    is_problem(response, 422, "validation-failed", "X-Request-Timeout")
    assert mesh.calls == []


async def test_blank_timeout_is_refused(asgi, mesh, is_problem):
    response = await asgi.get("/products/P001", headers={"X-Request-Timeout": " "})

    is_problem(response, 422, "validation-failed", "X-Request-Timeout")
    assert mesh.calls == []


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/docs"])
async def test_route_without_a_call_ignores_the_timeout(http, path):
    assert (await http.get(path, headers={"X-Request-Timeout": "soon"})).status_code in (200, 503)


async def test_order_past_its_deadline_is_accepted_or_unknown(http, mesh, alice, an_order, is_problem):
    headers = {**alice, "X-Request-Timeout": "0.2", "Idempotency-Key": "k"}
    mesh.results["orders.place_orders"] = [{"ok": an_order(status="pending")}]
    assert (await http.post("/orders", json=LINE, headers=headers)).status_code == 202

    mesh.results["orders.place_orders"] = DeadlineExceeded("late")
    response = await http.post("/orders", json=LINE, headers=headers)
    is_problem(response, 504, "deadline-exceeded")
    assert response.headers["idempotency-key"] == "k"
