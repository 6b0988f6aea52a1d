"""The first minutes with the mesh: its output, settings, documentation and metrics."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

from tests.waiting import eventually


def printed_order(output: str) -> dict:
    (order,) = re.findall(r"The first order:\s*(\{.*?\n\})", output, re.DOTALL)
    return json.loads(order)


def test_first_order_is_printed_confirmed_and_mailed(mesh):
    order = printed_order(mesh.command.output)
    assert order["status"] == "confirmed"
    assert order["user"] == {"id": "U001", "name": "Alice", "email": "alice@example.com"}
    (item,) = order["items"]
    assert item["product"] == {"id": "P001", "name": "Laptop"}
    assert (order["total_price"], order["total_minor"], order["currency"]) == (1200.5, 120050, "USD")
    (mail,) = eventually(lambda: mesh.mailbox.about(order["order_id"]))
    assert mail["To"] == "alice@example.com"
    assert "1200.50 USD" in mail.get_payload(decode=True).decode()


def test_printed_curl_command_places_an_order(mesh):
    (line,) = re.findall(r"^curl .*$", mesh.command.output, re.MULTILINE)
    answer = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=20)
    assert json.loads(answer.stdout)["status"] == "confirmed"


def test_ps_lists_every_running_process(mesh):
    rows = {row["name"]: row for row in mesh.command.processes()}
    assert {"gateway", "products", "users", "orders", "notifications", "rabbitmq", "consul"} <= set(rows)
    assert set(rows["orders"]) == {"name", "service", "pid", "address", "state", "restarts"}
    assert rows["gateway"]["address"] == mesh.settings["GATEWAY_URL"].removeprefix("http://")
    assert mesh.command.mycelium("ps").returncode == 0


def test_env_file_has_the_settings_for_a_shell(mesh):
    expected = {"AMQP_URI", "CONSUL_HTTP_ADDR", "DATABASE_URL", "GATEWAY_URL", "PRODUCTS_GRPC"}
    expected |= {"ALICE_PASSWORD", "BOB_PASSWORD", "ADMIN_PASSWORD"}
    assert expected <= set(mesh.settings)
    assert "JWT_SECRET" not in mesh.settings
    assert (mesh.command.home / "env").stat().st_mode & 0o077 == 0


def test_each_instance_is_in_consul_with_its_real_address(mesh):
    rows = {row["name"]: row for row in mesh.command.processes()}
    for name in ("products", "users", "orders", "notifications", "gateway"):
        (instance,) = mesh.instances(name)
        service = instance["Service"]
        assert f"{service['Address']}:{service['Port']}" == rows[name]["address"]


def test_deregistered_instance_registers_again(mesh):
    import httpx

    (instance,) = mesh.instances("orders")
    agent = mesh.settings["CONSUL_HTTP_ADDR"]
    httpx.put(
        f"{agent}/v1/agent/service/deregister/{instance['Service']['ID']}", timeout=5
    ).raise_for_status()
    assert eventually(lambda: mesh.instances("orders"), 15)


def test_documentation_page_works_offline(mesh):
    page = mesh.http.get("/docs").text
    for link in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert not link.startswith(("http:", "https:", "//")), link
        assert mesh.http.get(link).status_code == 200
    assert mesh.http.get("/openapi.json").json()["openapi"].startswith("3.")


def test_metrics_are_served_on_a_separate_port(mesh):
    import httpx

    assert mesh.http.get("/metrics").status_code == 404
    assert mesh.http.get("/products/P404").status_code == 404
    text = httpx.get(mesh.settings["METRICS_URL"], timeout=5).text
    placed = 'gateway_request_seconds_count{method="POST",route="/orders",status="201"}'
    assert placed in text
    assert 'route="/products/{id}",status="404"' in text
    assert 'route="none",status="404"' in text
    assert "P404" not in text  # labels hold route templates, never a client's input
