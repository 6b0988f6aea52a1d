"""Reading, listing and cancelling orders."""

import pytest

from nameko_mesh.errors import Refused


async def test_order_is_visible_to_its_user_and_to_an_admin(http, mesh, alice, admin, an_order):
    mesh.results["orders.get_order"] = an_order()

    for headers in (alice, admin):
        response = await http.get("/orders/o-1", headers=headers)
        assert (response.status_code, response.json()) == (200, an_order())


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("GET", "/events")])
async def test_order_of_another_user_is_forbidden(http, mesh, alice, is_problem, an_order, method, path):
    mesh.results["orders.get_order"] = an_order(user={"id": "U002", "name": "Bob", "email": "b@example.com"})

    response = await http.request(method, f"/orders/o-1{path}", headers=alice)

    is_problem(response, 403, "forbidden")
    assert mesh.called == ["orders.get_order"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("GET", "/events")])
async def test_unknown_order_is_not_found(http, mesh, alice, is_problem, method, path):
    mesh.results["orders.get_order"] = Refused("not-found", "there is no such order")

    is_problem(await http.request(method, f"/orders/o-1{path}", headers=alice), 404, "not-found")


async def test_order_without_a_user_is_not_shown(http, mesh, alice, is_problem, an_order):
    mesh.results["orders.get_order"] = an_order(user=None)

    is_problem(await http.get("/orders/o-1", headers=alice), 503, "unavailable")


async def test_cancellation_returns_the_cancelled_order(http, mesh, alice, an_order):
    mesh.results["orders.get_order"] = an_order()
    mesh.results["orders.cancel_order"] = an_order(status="cancelled")

    response = await http.post("/orders/o-1/cancel", headers=alice)

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert mesh.last == {"order_id": "o-1"}


async def test_cancellation_of_a_rejected_order_is_a_conflict(http, mesh, alice, is_problem, an_order):
    mesh.results["orders.get_order"] = an_order(status="rejected")
    mesh.results["orders.cancel_order"] = Refused("conflict", "it was rejected")

    is_problem(await http.post("/orders/o-1/cancel", headers=alice), 409, "conflict")


async def test_page_has_the_limit_and_cursor_of_the_request(http, mesh, alice, an_order):
    mesh.results["orders.list_orders"] = {"items": [an_order()], "next_cursor": "c2"}

    response = await http.get("/orders?limit=1&cursor=c1", headers=alice)

    assert response.json() == {"items": [an_order()], "next_cursor": "c2"}
    assert mesh.last == {"user_id": "U001", "limit": 1, "cursor": "c1"}


async def test_only_an_admin_lists_the_orders_of_another_user(http, mesh, alice, admin, is_problem):
    mesh.results["orders.list_orders"] = {"items": [], "next_cursor": None}

    is_problem(await http.get("/orders?user_id=U002", headers=alice), 403, "forbidden")
    assert mesh.calls == []

    assert (await http.get("/orders?user_id=U002", headers=admin)).status_code == 200
    assert mesh.last["user_id"] == "U002"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=1.5", "cursor=%20", "user_id=%00"]
)
async def test_invalid_query_is_refused_by_field(http, mesh, alice, is_problem, query):
    response = await http.get(f"/orders?{query}", headers=alice)

    is_problem(response, 422, "validation-failed", query.partition("=")[0])
    assert mesh.calls == []
