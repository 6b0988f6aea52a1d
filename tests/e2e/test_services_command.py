"""`mycelium services` lists every instance as Consul registers it and as the gateway measures it."""

from __future__ import annotations

import json

from tests.waiting import eventually


def services(mesh):
    rows = json.loads(mesh.command.mycelium("services", "--json").stdout)
    return {(row["service"], row["instance"]): row for row in rows}


def instances_of(mesh, service):
    return [row for (name, instance), row in services(mesh).items() if name == service and ":" in instance]


def test_services_shows_versions_checks_and_call_figures(mesh):
    mesh.wait_until_ready()
    mesh.as_user("alice")
    assert mesh.order("P002").status_code == 201
    assert mesh.stock("P002") >= 0

    def is_passing(name):  # Consul may still list instances that have ended
        return any(row["checks"] == "passing" and row["version"] for row in instances_of(mesh, name))

    eventually(lambda: all(map(is_passing, ("products", "users", "orders", "notifications", "gateway"))), 15)
    (products,) = [row for row in instances_of(mesh, "products") if row["connected"]]
    assert products["breaker"] == "closed"
    assert products["calls"] >= 1
    assert products["mean_ms"] > 0
    orders = services(mesh)["orders", "its queue"]
    assert (orders["breaker"], orders["in_flight"]) == ("closed", 0)
    assert orders["calls"] > orders["failed"]
    assert "its queue" in mesh.command.mycelium("services").stdout


def test_stopped_instance_is_shown_as_disconnected(mesh):
    mesh.stop("products")
    try:
        eventually(lambda: not any(row["connected"] for row in instances_of(mesh, "products")), 15)
    finally:
        mesh.start("products")
        mesh.wait_until_ready()
