"""Nameko's own tools, its stock client and the tutorial's gRPC client work with the mesh."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CLASSIC_PROTO = """
syntax = "proto3";
package product;
service ProductService { rpc GetProduct (ProductRequest) returns (ProductResponse); }
message ProductRequest { string product_id = 1; }
message ProductResponse { string id = 1; string name = 2; double price = 3; int32 stock = 4; }
"""
CLASSIC_CLIENT = """
import grpc, sys
import classic_pb2, classic_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = classic_pb2_grpc.ProductServiceStub(channel)
    product = stub.GetProduct(classic_pb2.ProductRequest(product_id="P002"), timeout=5)
    print(product.id, product.name, product.price)
    try:
        stub.GetProduct(classic_pb2.ProductRequest(product_id="P404"), timeout=5)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""
STOCK_CLIENT = """
import os
from nameko import config
from nameko.standalone.rpc import ServiceRpcClient
config["AMQP_URI"] = os.environ["AMQP_URI"]
with ServiceRpcClient("products", timeout=5) as products:
    print(products.get_product(product_id="P002")["name"])
with ServiceRpcClient("orders", timeout=5) as orders:
    print(orders.place_order(user_id="U002", items=[{"product_id": "P002", "quantity": 1}])["status"])
"""
SHELL = """
print("price:", n.rpc.products.get_product(product_id="P002")["price"])
n.dispatch_event("users", "tested", {"a": 1})
print("dispatched")
"""


def python(mesh, code: str, *arguments: str) -> str:
    done = mesh.command.run([sys.executable, "-W", "ignore", "-c", code, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


def nameko(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "nameko"), *arguments]


def test_nameko_shell_calls_and_dispatches(mesh):
    done = mesh.command.run(nameko("shell", "--config", "config.yml", "--interface", "plain"), input=SHELL)
    assert "price: 75.99" in done.stdout, done.stderr
    assert "dispatched" in done.stdout
    assert "Traceback" not in done.stderr


def test_nameko_shows_the_configuration(mesh):
    done = mesh.command.run(nameko("show-config", "--config", "config.yml"))
    assert f"AMQP_URI: {mesh.settings['AMQP_URI']}" in done.stdout


def test_stock_client_calls_services(mesh):
    assert python(mesh, STOCK_CLIENT).split() == ["Keyboard", "confirmed"]


def test_classic_grpc_client_works_unchanged(mesh, tmp_path):
    (tmp_path / "classic.proto").write_text(CLASSIC_PROTO)
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}"]
    outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    subprocess.run([*compiler, *outputs, "classic.proto"], check=True, timeout=30)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CLASSIC_CLIENT}"
    answer = python(mesh, code, mesh.settings["PRODUCTS_GRPC"]).splitlines()
    assert answer == ["P002 Keyboard 75.99", "NOT_FOUND there is no product P404"]


def test_service_started_by_nameko_run_leaves_on_sigterm(mesh):
    environment = {**mesh.command.environment, **mesh.settings, "GRPC_BIND_PORT": "0", "HEALTH_PORT": "0"}
    service = subprocess.Popen(
        nameko("run", "--config", "config.yml", "services.users.service"),
        cwd=Path(__file__).parents[2], env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in service.stderr:
            if "registered with Consul" in line:
                break
        assert len(mesh.instances("users")) == 2
    finally:
        service.terminate()
        service.communicate(timeout=30)
    assert service.returncode == 0
    assert len(mesh.instances("users")) == 1


def test_service_with_a_missing_setting_exits_and_names_it(mesh):
    for missing in ("AMQP_URI", "DATABASE_URL"):
        environment = {**mesh.command.environment, **mesh.settings, missing: ""}
        done = subprocess.run(
            nameko("run", "--config", "config.yml", "services.orders.service"),
            cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"the setting {missing} is missing" in done.stderr


def test_json_output_of_ps_has_no_other_text(mesh):
    assert isinstance(json.loads(mesh.command.mycelium("ps", "--json").stdout), list)
