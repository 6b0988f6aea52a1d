"""Rules of every request and response: ids, headers, limits, crashes, health and documentation."""

import asyncio
import re

import httpx
import pytest

from gateway.app import create_app
from nameko_mesh.errors import RemoteFault
from tests.unit.gateway.serving import served

JSON = {"Content-Type": "application/json"}


async def test_health_is_ok_without_a_broker(http, mesh):
    mesh.is_connected = False

    assert (await http.get("/health")).json() == {"status": "ok"}


async def test_head_equals_get_without_the_body(http, mesh):
    mesh.results["products.get_products"] = [{"ok": {"id": "P001"}}]

    got, head = await http.get("/products/P001"), await http.head("/products/P001")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_instance_is_ready_while_the_broker_is_connected(http, mesh, is_problem):
    assert (await http.get("/ready")).json() == {"status": "ready"}

    mesh.is_connected = False

    assert "broker" in is_problem(await http.get("/ready"), 503, "unavailable")["detail"]


async def test_draining_instance_is_not_ready(http, app, is_problem):
    await app.state.lifecycle.drain()

    assert "shutting down" in is_problem(await http.get("/ready"), 503, "unavailable")["detail"]


async def test_lifespan_connects_and_disconnects(app, mesh):
    mesh.is_connected = False

    async with app.router.lifespan_context(app):
        assert mesh.is_connected
    assert not mesh.is_connected


@pytest.mark.parametrize("given", ["r-1", "0af7651916cd43dd8448eb211c80319c", "a.b:c_d-e"])
async def test_valid_request_id_is_kept(http, given):
    assert (await http.get("/health", headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "caf\u00e9", "-flag"])
async def test_invalid_request_id_is_replaced(http, given):
    response = await http.get("/health", headers=[("X-Request-Id", given.encode("latin-1"))])

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_responses_forbid_sniffing_and_personal_responses_forbid_caching(http, alice, mesh):
    mesh.results["users.get_user"] = {"id": "U001"}

    assert (await http.get("/health")).headers["x-content-type-options"] == "nosniff"
    assert (await http.get("/users/me", headers=alice)).headers["cache-control"] == "no-store"


async def test_crash_is_a_problem_that_shows_only_the_request_id(http, mesh, is_problem, caplog):
    def crash(**_):
        raise ZeroDivisionError("a secret")

    mesh.results["products.get_products"] = crash

    response = await http.get("/products/P001", headers={"X-Request-Id": "r-1"})

    assert "r-1" in is_problem(response, 500, "internal")["detail"]
    assert "secret" not in response.text
    assert "r-1" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_service_failure_is_logged_with_the_request_id(http, mesh, is_problem, caplog):
    mesh.results["products.get_products"] = RemoteFault("KeyError", "a secret")

    response = await http.get("/products/P001", headers={"X-Request-Id": "r-1"})

    is_problem(response, 503, "unavailable")
    assert "secret" not in response.text
    assert "r-1" in caplog.text
    assert "a secret" in caplog.text


async def test_body_that_arrives_too_slowly_is_a_timeout(make_settings, mesh, alice, is_problem):
    app = create_app(make_settings(GATEWAY_BODY_SECONDS=0.05), mesh)

    async def stuck():
        yield b"{"
        await asyncio.Event().wait()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        is_problem(
            await http.post("/orders", content=stuck(), headers={**alice, **JSON}), 408, "request-timeout"
        )


async def test_cors_headers_are_sent_only_to_configured_origins(http, make_settings, mesh):
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in (await http.get("/health", headers=origin)).headers

    app = create_app(make_settings(GATEWAY_CORS_ORIGINS=["https://shop.example"]), mesh)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as other:
        response = await other.get("/health", headers=origin)
    assert response.headers["access-control-allow-origin"] == "https://shop.example"


async def test_vary_origin_is_sent_with_and_without_an_origin(make_settings, mesh):
    app = create_app(make_settings(GATEWAY_CORS_ORIGINS=["https://shop.example"]), mesh)
    mesh.results["products.get_products"] = [{"ok": {"id": "P001"}}]

    async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        for headers in ({}, {"Origin": "https://shop.example"}):
            response = await http.get("/products/P001", headers=headers)
            assert (response.status_code, response.headers["vary"]) == (200, "Origin")


async def test_documentation_loads_no_file_from_another_host(http):
    page = (await http.get("/docs")).text

    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)
    for path in re.findall(r"(?:src|href)=\"(/[^\"]+)\"", page):
        assert (await http.get(path)).status_code == 200, path
    assert (await http.get("/openapi.json")).json()["info"]["title"] == "Mycelium"
