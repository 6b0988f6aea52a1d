"""Signing up, and seeing and changing users."""

import pytest

from nameko_mesh.errors import Refused

ALICE = {
    "id": "U001",
    "name": "Alice",
    "email": "alice@example.com",
    "role": "user",
    "version": 1,
    "created_at": "2026-01-01T00:00:00Z",
}
NEW = {"name": "Alice", "email": "alice@example.com", "password": "longenough"}


async def test_sign_up_needs_no_token(http, mesh):
    mesh.results["users.register_user"] = ALICE

    response = await http.post("/users", json=NEW)

    assert (response.status_code, response.json()) == (201, ALICE)
    assert response.headers["location"] == "/users/U001"
    assert response.headers["cache-control"] == "no-store"
    assert {name: mesh.last[name] for name in NEW} == NEW
    assert mesh.last["command_id"]


async def test_sign_up_ignores_the_idempotency_key(http, mesh):
    mesh.results["users.register_user"] = ALICE

    for _ in range(2):
        await http.post("/users", json=NEW, headers={"Idempotency-Key": "1"})

    first, second = (kwargs["command_id"] for _, kwargs in mesh.calls)
    assert first != second


async def test_taken_email_is_a_conflict(http, mesh, is_problem):
    mesh.results["users.register_user"] = Refused("already-exists", "this e-mail address is taken", "email")

    is_problem(await http.post("/users", json=NEW), 409, "already-exists", "email")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b@c.example"}, "email"),
        ({"email": "a" * 300 + "@example.com"}, "email"),
        ({"email": 5}, "email"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": None}, "name"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"role": "admin"}, "role"),
    ],
)
async def test_invalid_sign_up_is_refused_by_field(http, mesh, is_problem, change, field):
    response = await http.post("/users", json={**NEW, **change})

    is_problem(response, 422, "validation-failed", field)
    assert mesh.calls == []


async def test_refused_password_is_not_in_the_response(http):
    response = await http.post("/users", json={**NEW, "password": "s3cret"})

    assert "s3cret" not in response.text


async def test_user_reads_itself(http, mesh, alice):
    mesh.results["users.get_user"] = ALICE

    for path in ("/users/me", "/users/U001"):
        response = await http.get(path, headers=alice)
        assert (response.status_code, response.json()) == (200, ALICE)
        assert mesh.last == {"user_id": "U001"}


async def test_only_an_admin_reads_another_user(http, mesh, alice, admin, is_problem):
    mesh.results["users.get_user"] = {**ALICE, "id": "U002"}

    is_problem(await http.get("/users/U002", headers=alice), 403, "forbidden")
    assert mesh.calls == []
    assert (await http.get("/users/U002", headers=admin)).status_code == 200


async def test_unknown_user_is_not_found(http, mesh, admin, is_problem):
    mesh.results["users.get_user"] = Refused("not-found", "there is no such user")

    is_problem(await http.get("/users/U404", headers=admin), 404, "not-found")


async def test_user_changes_only_the_fields_it_sends(http, mesh, alice):
    mesh.results["users.update_user"] = {**ALICE, "name": "Al"}

    response = await http.patch("/users/me", json={"name": "Al"}, headers=alice)

    assert response.json()["name"] == "Al"
    command = mesh.last.pop("command_id")
    assert command
    assert mesh.last == {"user_id": "U001", "name": "Al"}


@pytest.mark.parametrize("body", [{}, {"name": None}, {"id": "U002"}, {"password": "short"}])
async def test_invalid_change_is_refused(http, mesh, alice, is_problem, body):
    is_problem(await http.patch("/users/me", json=body, headers=alice), 422, "validation-failed")
    assert mesh.calls == []


async def test_repeated_change_with_the_same_key_is_the_same_command(http, mesh, alice, admin):
    mesh.results["users.update_user"] = ALICE

    for headers in (alice, alice, admin):
        await http.patch("/users/me", json={"name": "Al"}, headers={**headers, "Idempotency-Key": "k"})

    first, again, of_another = (kwargs["command_id"] for _, kwargs in mesh.calls)
    assert first == again != of_another


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users/me"),
        ("GET", "/users/U001"),
        ("PATCH", "/users/me"),
        ("POST", "/products"),
        ("PATCH", "/products/P001"),
        ("POST", "/products/P001/restock"),
        ("POST", "/orders"),
        ("GET", "/orders"),
        ("GET", "/orders/o-1"),
        ("POST", "/orders/o-1/cancel"),
        ("GET", "/orders/o-1/events"),
    ],
)
async def test_request_without_a_token_is_unauthenticated(http, mesh, is_problem, method, path):
    response = await http.request(method, path)

    is_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert mesh.calls == []
