"""The containers of docker-compose.yml, run as plain processes, take an order on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from tests.e2e.compose_mesh import ADDRESS, LONG_RUNNING, ComposeMesh
from tests.e2e.compose_servers import servers_running
from tests.waiting import eventually

EMAIL = "carol@example.com"
PASSWORD = "a password of the tests"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, mailbox: Any) -> Iterator[ComposeMesh]:
    """Yield a migrated, seeded and healthy mesh."""
    folder = tmp_path_factory.mktemp("compose")
    with servers_running(folder, urlsplit(mailbox.url).port) as (servers, processes):
        mesh = ComposeMesh(servers, processes, folder)
        mesh.create_databases()
        for job in ("migrate", "seed"):
            done = mesh.run_job(job)
            assert done.returncode == 0, done.stdout.decode()
        try:
            mesh.start()
            mesh.wait_until_healthy()
            yield mesh
        finally:
            mesh.kill()


@pytest.fixture(scope="module")
def http(mesh: ComposeMesh) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mesh.gateway_url, timeout=10) as client:
        yield client


def bearer(http: httpx.Client, email: str, password: str) -> dict[str, str]:
    response = http.post("/auth/token", data={"username": email, "password": password})
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def registered(mesh: ComposeMesh) -> dict[str, dict[str, Any]]:
    """Return the agent's registrations, by service."""
    response = httpx.get(f"{mesh.servers.agent.http_addr}/v1/agent/services", timeout=5)
    return {instance["Service"]: instance for instance in response.json().values()}


def healthy(mesh: ComposeMesh) -> set[str]:
    """Return the services whose check Consul has run with success."""
    checks = httpx.get(f"{mesh.servers.agent.http_addr}/v1/agent/checks", timeout=5).json().values()
    return {check["ServiceName"] for check in checks if "200 OK" in check["Output"]}


def test_new_customer_orders_and_gets_a_mail(mesh, http, mailbox):
    joined = http.post("/users", json={"name": "Carol", "email": EMAIL, "password": PASSWORD})
    assert joined.status_code == 201, joined.text
    headers = {**bearer(http, EMAIL, PASSWORD), "Idempotency-Key": str(uuid.uuid4())}

    placed = http.post("/orders", json={"product_id": "P002", "quantity": 2}, headers=headers)

    assert placed.status_code == 201, placed.text
    order = placed.json()
    assert (order["status"], order["total_minor"]) == ("confirmed", 2 * 7599)
    assert http.get("/products/P002").json()["stock"] == 48
    [mail] = eventually(lambda: mailbox.about(order["order_id"]), what="the mail")
    assert mail["To"] == EMAIL
    assert "2 x Keyboard" in mail.get_payload()


def test_seeded_user_can_log_in(mesh, http):
    headers = bearer(http, "alice@example.com", mesh.secrets["ALICE_PASSWORD"])
    assert http.get("/users/me", headers=headers).json()["id"] == "U001"


def test_service_uses_its_own_database_as_an_unprivileged_role(mesh):
    url = mesh.containers["orders"].environment["DATABASE_URL"]
    engine = sa.create_engine(url.replace("{service}", "orders"))
    with engine.connect() as connection:
        role = sa.text("SELECT rolname, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")
        assert connection.execute(role).one() == ("services", False, False)
        assert "orders" in sa.inspect(connection).get_table_names()
    engine.dispose()


def test_every_process_registers_a_reachable_address_with_consul(mesh):
    # A service registers once it is ready, and its health check has just passed.
    eventually(lambda: set(registered(mesh)) == set(LONG_RUNNING), what="five services in Consul")
    port_of = {name: mesh.containers[name].environment for name in LONG_RUNNING}
    assert registered(mesh)["products"]["Port"] == int(port_of["products"]["GRPC_BIND_PORT"])
    assert registered(mesh)["gateway"]["Port"] == int(port_of["gateway"]["GATEWAY_PORT"])
    assert registered(mesh)["orders"]["Port"] == int(port_of["orders"]["HEALTH_PORT"])
    assert {instance["Address"] for instance in registered(mesh).values()} == {ADDRESS}
    eventually(lambda: healthy(mesh) == set(LONG_RUNNING), what="a passing check of each service")


def test_second_migration_and_seeding_change_nothing(mesh, http):
    before = http.get("/products").json()
    assert [mesh.run_job(job).returncode for job in ("migrate", "seed")] == [0, 0]
    assert http.get("/products").json() == before


def test_all_processes_stop_in_time_with_exit_code_zero(mesh):
    assert mesh.stop() == dict.fromkeys(LONG_RUNNING, 0)
    assert registered(mesh) == {}
    assert mesh.leftovers() == []
    assert mesh.written() == set()
