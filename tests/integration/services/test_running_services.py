"""The real services in containers over a real broker: RPC, gRPC and events together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import eventlet
import pytest
from nameko import config
from nameko.exceptions import RemoteError
from nameko.standalone.rpc import ClusterRpcClient

from mycelium.seed import schemas_of
from mycelium.servers import free_port
from mycelium.state import ROOT
from nameko_mesh.sql import migrations
from services.notifications.service import NotificationsService
from services.orders import recovery
from services.orders.service import OrdersService
from services.products.service import ProductsService
from services.users.service import UsersService
from tests.waiting import eventually

SERVICES = (ProductsService, UsersService, OrdersService, NotificationsService)


@pytest.fixture
def broker(rabbitmq_node, request):
    request.config.option.RABBIT_AMQP_URI = rabbitmq_node.amqp_uri
    request.config.option.RABBIT_API_URI = rabbitmq_node.management_url
    return request.getfixturevalue("rabbit_config")


@pytest.fixture
def containers(broker, container_factory, tmp_path):
    """Containers of all four services on SQLite, by name."""
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/{{service}}.db",
        "OUTBOX_DIR": str(tmp_path / "outbox"),
        "SERVICE_CONTAINER_CLS": "nameko_mesh.runtime.Container",
        "GRPC_BIND_HOST": "127.0.0.1",
        "GRPC_BIND_PORT": free_port(),
        "max_workers": 40,
    }
    with config.patch(settings):
        for service in SERVICES:
            url = settings["DATABASE_URL"].replace("{service}", service.name)
            migrations.upgrade(url, schemas_of(service.name))
        containers = {service.name: container_factory(service) for service in SERVICES}
        for container in containers.values():
            container.start()
        yield containers
        for container in containers.values():
            container.stop()


@pytest.fixture
def mesh(containers):
    """A client of all services, with two products created."""
    with ClusterRpcClient(timeout=10) as client:
        client.products.create_product(product_id="P001", name="Laptop", price_minor=120050, stock=10)
        client.products.create_product(product_id="P002", name="Keyboard", price_minor=7599, stock=50)
        yield client


@pytest.fixture
def alice(mesh):
    return mesh.users.register_user(name="Alice", email="alice@example.com", password="a long password")["id"]


def test_order_is_placed_mailed_and_cancelled(mesh, alice, tmp_path):
    items = [{"product_id": "P001", "quantity": 2}]
    order = mesh.orders.place_order(user_id=alice, items=items, idempotency_key="k")
    assert (order["status"], order["total_minor"]) == ("confirmed", 240100)
    assert mesh.orders.place_order(user_id=alice, items=items, idempotency_key="k") == order
    assert mesh.products.get_product(product_id="P001")["stock"] == 8
    eventually(lambda: len(list((tmp_path / "outbox").glob("*.eml"))) == 1)

    assert mesh.orders.cancel_order(order_id=order["order_id"])["status"] == "cancelled"
    eventually(lambda: mesh.products.get_product(product_id="P001")["stock"] == 10)
    eventually(lambda: len(list((tmp_path / "outbox").glob("*.eml"))) == 2)
    assert mesh.orders.get_order(order_id=order["order_id"])["status"] == "cancelled"
    assert mesh.orders.list_orders(user_id=alice)["items"][0]["order_id"] == order["order_id"]


def test_abandoned_reservation_gets_its_order_while_orders_restarts(
    mesh, alice, containers, container_factory, monkeypatch
):
    items = [{"product_id": "P001", "quantity": 2}]
    mesh.orders.place_order(user_id=alice, items=items)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        eventlet.sleep(seconds)

    monkeypatch.setattr(recovery, "time", SimpleNamespace(sleep=wait))
    reserved = {"order_id": "o-abandoned", "user_id": alice, "items": items, "exact": True}
    (answer,) = mesh.products.reserve_stocks(orders=[reserved])
    assert "ok" in answer
    eventually(lambda: waits)

    containers["orders"].stop()  # after the handler has ended
    containers["orders"] = container_factory(OrdersService)
    containers["orders"].start()

    order = mesh.orders.get_order(order_id="o-abandoned")
    assert (order["status"], order["total_minor"], len(waits)) == ("confirmed", 240100, 1)
    assert mesh.products.get_product(product_id="P001")["stock"] == 6


def test_order_has_the_name_and_address_of_a_changed_user(mesh, alice):
    mesh.users.update_user(user_id=alice, name="Alicia", email="alicia@example.com")
    items = [{"product_id": "P002", "quantity": 1}]

    def placed():
        return mesh.orders.place_order(user_id=alice, items=items)["user"]

    eventually(lambda: placed() == {"id": alice, "name": "Alicia", "email": "alicia@example.com"})


def test_batch_methods_answer_each_item(mesh, alice):
    orders = [
        {"user_id": alice, "items": [{"product_id": "P001", "quantity": 1}]},
        {"user_id": alice, "items": [{"product_id": "P404", "quantity": 1}]},
        {"user_id": "nobody", "items": [{"product_id": "P001", "quantity": 1}]},
        "nonsense",
    ]
    answers = mesh.orders.place_orders(orders=orders)
    assert [answer.get("error", {}).get("code", "ok") for answer in answers] == [
        "ok", "not-found", "not-found", "validation-failed",
    ]  # fmt: skip
    users = mesh.users.get_users(user_ids=[alice, "nobody"])
    assert [list(answer) for answer in users] == [["ok"], ["error"]]
    products = mesh.products.get_products(product_ids=["P001", "P404"])
    assert [list(answer) for answer in products] == [["ok"], ["error"]]
    released = mesh.products.release_stocks(order_ids=["o-9", 7])
    assert [list(answer) for answer in released] == [["ok"], ["error"]]


def test_other_methods_answer_over_rpc(mesh, alice):
    assert mesh.users.authenticate_user(email="alice@example.com", password="a long password")["id"] == alice
    assert mesh.users.get_user(user_id=alice)["role"] == "user"
    assert mesh.products.update_product(product_id="P002", price_minor=1)["price"] == 0.01
    assert mesh.products.restock(command_id="c", product_id="P002", quantity=5)["stock"] == 55
    first = mesh.products.list_products(limit=1)
    second = mesh.products.list_products(limit=1, cursor=first["next_cursor"])
    assert [first["items"][0]["id"], second["items"][0]["id"], second["next_cursor"]] == [
        "P001",
        "P002",
        None,
    ]
    assert mesh.products.release_stock(order_id="o-8") == {"order_id": "o-8", "released": True}
    with pytest.raises(RemoteError, match="has been cancelled"):
        mesh.products.reserve_stock(order_id="o-8", items=[{"product_id": "P001", "quantity": 1}])


def test_stock_grpc_client_gets_answers_and_errors(mesh):
    here = Path(__file__).parent
    command = [sys.executable, str(here / "grpc_client.py"), f"127.0.0.1:{config['GRPC_BIND_PORT']}"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    quantity = "expected a whole number from 1 to 1000000"
    assert json.loads(done.stdout) == {
        "product": ["P001", "Laptop", 1200.5, 10, 120050, "USD"],
        "unknown": ["NOT_FOUND", "there is no product P404"],
        "batch": ["product", "problem"],
        "problem": "not-found",
        "list": ["P001", "P002"],
        "found": ["P002"],
        "watched": [10, 8, 10],
        "reserved": [["P001", 2, 120050]],
        "out of stock": ["FAILED_PRECONDITION", "P001 has 10 in stock, the order asks for 99"],
        "no quantity": ["INVALID_ARGUMENT", f"items[0].quantity: {quantity}"],
        "released": ["FAILED_PRECONDITION", "order o-4 has been cancelled"],
        "metadata x-nameko-foo: notjson": "INVALID_ARGUMENT",
        "metadata x-nameko-call_id_stack: 5": "INVALID_ARGUMENT",
        'metadata x-nameko-deadline: "x"': "INVALID_ARGUMENT",
        "junk": "INTERNAL",
        "still there": "P001",
        "watch unknown": ["NOT_FOUND", "there is no product P404"],
    }


def test_open_watch_does_not_delay_the_stop(mesh):
    """The fixture stops every container, which must end although a stream is open."""
    client = (
        "import grpc, sys; from protos import product_pb2 as pb, product_pb2_grpc as g\n"
        "stub = g.ProductServiceStub(grpc.insecure_channel(sys.argv[1]))\n"
        "stream = stub.WatchStock(pb.WatchStockRequest())\n"
        "print(next(stream).product_id, flush=True)\n"
        "try: list(stream)\n"
        "except grpc.RpcError: pass\n"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", client, f"127.0.0.1:{config['GRPC_BIND_PORT']}"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout.readline().strip() == "P001"
    mesh.products.restock(command_id="c", product_id="P001", quantity=1)
    watcher.terminate()
    watcher.communicate(timeout=10)
