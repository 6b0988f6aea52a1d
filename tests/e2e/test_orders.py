"""Orders through the whole mesh, under concurrency and while services are stopped."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from os import kill
from signal import SIGKILL, SIGSTOP
from uuid import uuid4

from tests.waiting import eventually


def status(mesh, order_id, user="alice"):
    return mesh.http.get(f"/orders/{order_id}", headers=mesh.as_user(user)).json()["status"]


def test_twenty_concurrent_orders_for_the_last_ten_units_confirm_ten(mesh):
    laptop = mesh.new_product(stock=10)
    mesh.as_user("alice")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: mesh.order(laptop), range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 10, 409: 10}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"out-of-stock"}
    assert mesh.stock(laptop) == 0


def test_ten_concurrent_requests_with_the_same_key_are_one_order(mesh):
    product = mesh.new_product(stock=10)
    key = str(uuid4())
    mesh.as_user("alice")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: mesh.order(product, **{"Idempotency-Key": key}), range(10)))
    created = [answer for answer in answers if answer.status_code == 201]
    assert created
    assert len({answer.content for answer in created}) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code != 201} <= {
        "request-in-progress"
    }
    assert mesh.stock(product) == 9
    replay = mesh.order(product, **{"Idempotency-Key": key})
    assert (replay.status_code, replay.content) == (201, created[0].content)
    other = mesh.order(product, 2, **{"Idempotency-Key": key})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_cancelled_order_releases_its_stock_and_sends_a_mail(mesh):
    product = mesh.new_product(stock=5)
    order = mesh.order(product, 3).json()
    assert mesh.stock(product) == 2
    cancelled = mesh.http.post(f"/orders/{order['order_id']}/cancel", headers=mesh.as_user("alice"))
    assert cancelled.json()["status"] == "cancelled"
    eventually(lambda: mesh.stock(product) == 5)
    eventually(lambda: len(mesh.mailbox.about(order["order_id"])) == 2)


def test_order_of_two_products_with_one_out_of_stock_takes_none(mesh):
    plenty, few = mesh.new_product(stock=10), mesh.new_product(stock=1)
    items = [{"product_id": plenty, "quantity": 2}, {"product_id": few, "quantity": 2}]
    answer = mesh.http.post("/orders", json={"items": items}, headers=mesh.as_user("alice"))
    assert answer.status_code == 409
    assert (mesh.stock(plenty), mesh.stock(few)) == (10, 1)


def test_order_without_products_is_accepted_and_confirmed_later(mesh):
    product = mesh.new_product(stock=3)
    mesh.as_user("alice")
    mesh.stop("products")
    started = time.monotonic()
    answer = mesh.order(product)
    assert time.monotonic() - started < 3
    assert answer.status_code == 202
    order_id = answer.json()["order_id"]
    assert answer.headers["Location"] == f"/orders/{order_id}"
    (pending,) = json.loads(mesh.command.mycelium("sagas", "--json").stdout)
    assert pending["order_id"] == order_id
    read = mesh.http.get(f"/products/{product}")
    assert read.status_code in (503, 504)
    mesh.start("products")
    eventually(lambda: status(mesh, order_id) == "confirmed", 30)
    assert mesh.stock(product) == 2
    eventually(lambda: len(mesh.mailbox.about(order_id)) == 1)
    assert mesh.command.mycelium("sagas").stdout == "nothing waits\n"
    eventually(
        lambda: {lag["unsent"] for lag in json.loads(mesh.command.mycelium("outbox", "--json").stdout)} == {0}
    )
    queues = json.loads(mesh.command.mycelium("dlq", "list", "--json").stdout)
    assert {queue["parked"] for queue in queues} == {0}
    assert all(queue["consumers"] for queue in queues)


def test_known_customer_orders_while_users_is_stopped(mesh):
    mesh.as_user("alice")
    mesh.stop("users")
    try:
        assert mesh.order("P002").status_code == 201
        answer = mesh.http.get("/users/me", headers=mesh.as_user("alice"))
        assert answer.status_code in (503, 504)
        assert answer.headers["content-type"] == "application/problem+json"
    finally:
        mesh.start("users")


def test_order_is_refused_in_time_while_orders_is_stopped(mesh):
    mesh.as_user("alice")
    mesh.stop("orders")
    try:
        started = time.monotonic()
        answer = mesh.order("P002")
        assert time.monotonic() - started < 3
        assert answer.status_code in (503, 504)
        assert answer.headers["Idempotency-Key"]
    finally:
        mesh.start("orders")


def test_killed_service_is_restarted(mesh):
    before = mesh.pid("orders")
    kill(before, SIGKILL)
    eventually(lambda: mesh.pid("orders") not in (0, before), 20)
    eventually(lambda: mesh.order("P002").status_code == 201, 20)
    row = next(row for row in mesh.command.processes() if row["name"] == "orders")
    assert row["restarts"] >= 1


def test_hanging_service_leaves_discovery_and_is_restarted(mesh):
    before = mesh.pid("notifications")
    kill(before, SIGSTOP)
    eventually(lambda: mesh.instances("notifications") == [], 20, "notifications leaving discovery")
    eventually(lambda: mesh.pid("notifications") not in (0, before), 30, "a new process")
    mesh.wait_until_ready()
    assert "notifications (process" in mesh.command.output


def test_event_stream_reports_each_status_of_an_order(mesh):
    order = mesh.order("P002").json()
    events = f"/orders/{order['order_id']}/events"
    with mesh.http.stream("GET", events, headers=mesh.as_user("alice")) as stream:
        lines = stream.iter_lines()
        assert any('"confirmed"' in line for line in _until_blank(lines))
        mesh.http.post(f"/orders/{order['order_id']}/cancel", headers=mesh.as_user("alice"))
        assert any('"cancelled"' in line for line in lines)


def _until_blank(lines):
    for line in lines:
        yield line
        if not line:
            return


def test_new_user_registers_logs_in_and_orders(mesh):
    email, password = f"{uuid4().hex}@example.com", "a long password"
    created = mesh.http.post("/users", json={"name": "Carol", "email": email, "password": password})
    assert created.status_code == 201
    token = mesh.http.post("/auth/token", data={"username": email, "password": password}).json()[
        "access_token"
    ]
    own = {"Authorization": f"Bearer {token}"}
    order = mesh.http.post("/orders", json={"product_id": "P002", "quantity": 1}, headers=own)
    assert order.status_code == 201
    assert order.json()["user"]["email"] == email
    assert mesh.http.get("/orders", headers=own).json()["items"][0]["order_id"] == order.json()["order_id"]
    assert (
        mesh.http.get(f"/orders/{order.json()['order_id']}", headers=mesh.as_user("bob")).status_code == 403
    )
