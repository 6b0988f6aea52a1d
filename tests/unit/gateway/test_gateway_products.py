"""Reading products, and changes of them by admins."""

import asyncio

import httpx
import pytest

from gateway.app import create_app
from gateway.clients.batching import BatcherFactory
from gateway.clients.products import STALLED_SECONDS
from nameko_mesh.errors import DeadlineExceeded, Refused, Unavailable, UnknownService

LAPTOP = {
    "id": "P001",
    "name": "Laptop",
    "price": 1200.5,
    "price_minor": 120050,
    "currency": "USD",
    "stock": 10,
    "version": 1,
}
NEW = {"name": "Laptop", "price_minor": 120050, "stock": 10}


async def test_product_is_read_without_a_token(http, mesh):
    mesh.results["products.get_products"] = [{"ok": LAPTOP}]

    response = await http.get("/products/P001")

    assert (response.status_code, response.json()) == (200, LAPTOP)
    assert mesh.last == {"product_ids": ["P001"]}


async def test_unknown_product_is_not_found(http, mesh, is_problem):
    refusal = {"code": "not-found", "message": "there is no product P404"}
    mesh.results["products.get_products"] = [{"error": refusal}]

    assert "P404" in is_problem(await http.get("/products/P404"), 404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(UnknownService("products"), 503, "unavailable"), (DeadlineExceeded("late"), 504, "deadline-exceeded")],
)
async def test_failed_read_has_the_status_of_its_error(http, mesh, is_problem, error, status, code):
    mesh.results["products.get_products"] = error

    response = await http.get("/products/P001")

    is_problem(response, status, code)
    assert int(response.headers["retry-after"]) >= 1


async def test_unavailable_product_is_shown_from_a_copy_with_its_age(http, mesh, is_problem):
    mesh.results["products.get_products"] = [{"ok": LAPTOP}]
    fresh = await http.get("/products/P001")
    mesh.results["products.get_products"] = Unavailable("away")

    copy = await http.get("/products/P001")

    assert (copy.status_code, copy.content, copy.headers["age"]) == (200, fresh.content, "0")
    assert "age" not in fresh.headers
    is_problem(await http.get("/products/P002"), 503, "unavailable")


async def test_stalled_service_is_answered_from_a_copy_at_once(http, mesh, is_problem):
    mesh.results["products.get_products"] = [{"ok": LAPTOP}]
    await http.get("/products/P001")
    called, released = asyncio.Semaphore(0), asyncio.Event()

    async def hang():
        called.release()
        await released.wait()

    mesh.results["products.get_products"] = lambda product_ids: hang()
    hanging = []
    for lane in range(BatcherFactory().lanes):
        hanging.append(asyncio.create_task(http.get(f"/products/P00{lane}")))
        await called.acquire()
    await asyncio.sleep(STALLED_SECONDS)
    calls = len(mesh.calls)

    copy = await http.get("/products/P001")

    assert (copy.status_code, "age" in copy.headers) == (200, True)
    is_problem(await http.get("/products/P002"), 503, "unavailable")
    assert not any(task.done() for task in hanging)
    assert len(mesh.calls) == calls
    released.set()
    await asyncio.gather(*hanging)


async def test_silent_service_is_unavailable_at_once_after_five_calls(http, mesh, is_problem):
    mesh.results["products.list_products"] = DeadlineExceeded("late")
    for _ in range(5):
        is_problem(await http.get("/products"), 504, "deadline-exceeded")
    calls = len(mesh.calls)

    response = await http.get("/products")

    is_problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert len(mesh.calls) == calls


async def test_slow_service_takes_up_only_its_own_calls(make_settings, mesh, alice, an_order, is_problem):
    slow, arrived = asyncio.Event(), asyncio.Event()

    async def list_products(**kwargs):
        arrived.set()
        await slow.wait()
        return {"items": [], "next_cursor": None}

    mesh.results |= {"products.list_products": list_products, "orders.get_order": an_order()}
    app = create_app(make_settings(GATEWAY_CALLS_PER_TARGET=1), mesh)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        held = asyncio.create_task(http.get("/products"))
        await arrived.wait()

        shed = await http.get("/products")
        other_service = await http.get("/orders/o-1", headers=alice)
        slow.set()

        is_problem(shed, 503, "unavailable")
        assert int(shed.headers["retry-after"]) >= 1
        assert other_service.status_code == 200
        assert (await held).status_code == 200


@pytest.mark.parametrize("malformed", [None, [], "a product", 5, [None], [{"ok": 1}], [{}, {}]])
async def test_malformed_result_is_unavailable(http, mesh, is_problem, malformed):
    mesh.results["products.get_products"] = malformed

    is_problem(await http.get("/products/P001"), 503, "unavailable")


async def test_concurrent_reads_travel_in_batches(http, mesh):
    reads = []

    async def get_products(product_ids):
        reads.append(product_ids)
        await asyncio.sleep(0.05)
        return [{"ok": {"id": product_id}} for product_id in product_ids]

    mesh.results["products.get_products"] = get_products
    wanted = ["A", "B", "A", "C", "B", "A", "C", "A"]

    responses = await asyncio.gather(*(http.get(f"/products/{product_id}") for product_id in wanted))

    assert [response.json()["id"] for response in responses] == wanted
    assert len(reads) < len(wanted)
    assert all(len(set(read)) == len(read) for read in reads)


async def test_page_has_the_limit_cursor_and_query_of_the_request(http, mesh):
    mesh.results["products.list_products"] = {"items": [LAPTOP], "next_cursor": None}

    response = await http.get("/products", params={"limit": 2, "cursor": "c", "query": "lap top"})

    assert response.json() == {"items": [LAPTOP], "next_cursor": None}
    assert mesh.last == {"limit": 2, "cursor": "c", "query": "lap top"}


async def test_page_has_a_limit_of_fifty_by_default(http, mesh):
    mesh.results["products.list_products"] = {"items": [], "next_cursor": None}

    await http.get("/products")

    assert mesh.last == {"limit": 50, "cursor": None, "query": None}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1000", "limit=ten", "cursor=", "query=%00", f"query={'x' * 101}"]
)
async def test_invalid_query_is_refused_by_field(http, mesh, is_problem, query):
    response = await http.get(f"/products?{query}")

    is_problem(response, 422, "validation-failed", query.partition("=")[0])
    assert mesh.calls == []


async def test_admin_creates_a_product(http, mesh, admin):
    mesh.results["products.create_product"] = LAPTOP

    response = await http.post("/products", json={**NEW, "id": "P001", "currency": "EUR"}, headers=admin)

    assert (response.status_code, response.headers["location"]) == (201, "/products/P001")
    assert mesh.last.pop("command_id")
    assert mesh.last == {**NEW, "product_id": "P001", "currency": "EUR"}


async def test_taken_product_id_is_a_conflict(http, mesh, admin, is_problem):
    mesh.results["products.create_product"] = Refused("already-exists", "P001 exists", "id")

    is_problem(await http.post("/products", json=NEW, headers=admin), 409, "already-exists", "id")


async def test_admin_changes_a_product(http, mesh, admin):
    mesh.results["products.update_product"] = LAPTOP

    response = await http.patch("/products/P001", json={"price_minor": 0}, headers=admin)

    assert response.status_code == 200
    assert mesh.last.pop("command_id")
    assert mesh.last == {"product_id": "P001", "price_minor": 0}


async def test_repeated_restock_with_the_same_key_is_the_same_command(http, mesh, admin):
    mesh.results["products.restock"] = LAPTOP

    for product, key in (("P001", "k"), ("P001", "k"), ("P002", "k"), ("P001", None)):
        headers = {**admin, **({"Idempotency-Key": key} if key else {})}
        response = await http.post(f"/products/{product}/restock", json={"quantity": 5}, headers=headers)
        assert response.status_code == 200

    first, again, of_another, without = (kwargs["command_id"] for _, kwargs in mesh.calls)
    assert first == again
    assert len({first, of_another, without}) == 3
    assert mesh.last["quantity"] == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/products", {**NEW, "price_minor": 12.5}, "price_minor"),
        ("POST", "/products", {**NEW, "price_minor": -1}, "price_minor"),
        ("POST", "/products", {**NEW, "stock": "10"}, "stock"),
        ("POST", "/products", {**NEW, "currency": "usd"}, "currency"),
        ("POST", "/products", {**NEW, "id": "a b"}, "id"),
        ("POST", "/products", {**NEW, "price": 1.5}, "price"),
        ("POST", "/products", {"name": "x"}, "price_minor"),
        ("PATCH", "/products/P001", {}, "body"),
        ("PATCH", "/products/P001", {"stock": 5}, "stock"),
        ("POST", "/products/P001/restock", {"quantity": 0}, "quantity"),
        ("POST", "/products/P001/restock", {"quantity": True}, "quantity"),
    ],
)
async def test_invalid_change_is_refused_by_field(http, mesh, admin, is_problem, method, path, body, field):
    response = await http.request(method, path, json=body, headers=admin)

    is_problem(response, 422, "validation-failed", field)
    assert mesh.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/products"), ("PATCH", "/products/P001"), ("POST", "/products/P001/restock")],
)
async def test_change_by_a_user_is_forbidden(http, mesh, alice, is_problem, method, path):
    is_problem(await http.request(method, path, json={}, headers=alice), 403, "forbidden")
    assert mesh.calls == []
