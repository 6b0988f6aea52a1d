"""`mycelium services` shows every instance, as Consul knows it and as the gateway sees it."""

from __future__ import annotations

import json

from tests.waiting import eventually


def services(mesh):
    rows = json.loads(mesh.command.mycelium("services", "--json").stdout)
    return {(row["service"], row["instance"]): row for row in rows}


def of(mesh, service):
    return [row for (name, instance), row in services(mesh).items() if name == service and ":" in instance]


def test_what_is_there_is_shown_with_how_it_goes(mesh):
    mesh.wait_until_ready()
    mesh.as_user("alice")
    assert mesh.order("P002").status_code == 201
    assert mesh.stock("P002") >= 0

    def is_there(name):  # beside those that Consul has not forgotten yet
        return any(row["checks"] == "passing" and row["version"] for row in of(mesh, name))

    eventually(lambda: all(map(is_there, ("products", "users", "orders", "notifications", "gateway"))), 15)
    (products,) = [row for row in of(mesh, "products") if row["connected"]]
    assert products["breaker"] == "closed"
    assert products["calls"] >= 1
    assert products["mean_ms"] > 0
    orders = services(mesh)["orders", "its queue"]
    assert (orders["breaker"], orders["in_flight"]) == ("closed", 0)
    assert orders["calls"] > orders["failed"]
    assert "its queue" in mesh.command.mycelium("services").stdout


def test_one_that_has_stopped_is_not_connected(mesh):
    mesh.stop("products")
    try:
        eventually(lambda: not any(row["connected"] for row in of(mesh, "products")), 15)
    finally:
        mesh.start("products")
        mesh.wait_until_ready()
