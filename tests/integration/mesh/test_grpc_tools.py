"""What every gRPC server has beside the service: health and reflection, for their stock clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import eventlet
import pytest
from nameko import config

from mesh.grpc import GrpcServer
from mesh.health import Presence
from mesh.rpc import rpc
from mycelium.servers import free_port
from tests.integration.mesh.grpc_shop import Shop
from tests.waiting import eventually

SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection", "product.ProductService"]  # fmt: skip


class PresentShop(Shop):
    presence = Presence()

    @rpc
    def hello(self) -> str:
        return "hello"


@pytest.fixture
def asked(call_shop: Callable[..., Any]) -> Callable[[str], Any]:
    return partial(call_shop, "grpc_tools_caller.py")


@pytest.fixture
def present_shop(container_factory: Any, port: int) -> Any:
    with config.patch({"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": port}):
        container = container_factory(PresentShop)
        container.start()
    return container


def test_each_service_has_its_health(shop: Any, asked: Callable[[str], Any]) -> None:
    everything = dict.fromkeys(["", "product.ProductService"], "SERVING")
    assert asked("checks") == ["SERVING", "SERVING", "NOT_FOUND", "SERVICE_UNKNOWN", everything]


def test_health_is_told_while_every_worker_is_busy(
    container_factory: Any, port: int, asked: Callable[[str], Any], call_shop: Callable[..., Any]
) -> None:
    Shop.entered.clear()
    with config.patch({"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": port, "max_workers": 1}):
        container_factory(Shop).start()
    calling = eventlet.spawn(call_shop, "grpc_caller.py", "slow_ones")
    eventually(lambda: "slow" in Shop.entered)
    assert asked("checks")[0] == "SERVING"
    assert not calling.dead
    assert calling.wait()


def test_who_watches_hears_that_the_service_leaves(shop: Any, asked: Callable[[str], Any]) -> None:
    (server,) = [one for one in shop.extensions if isinstance(one, GrpcServer)]
    watching = eventlet.spawn(asked, "watched")
    eventually(lambda: server.health.watchers)
    shop.stop()
    assert watching.wait() == ["SERVING", "NOT_SERVING"]


def test_health_is_the_readiness_of_the_presence(present_shop: Any, asked: Callable[[str], Any]) -> None:
    (server,) = [one for one in present_shop.extensions if isinstance(one, GrpcServer)]
    (presence,) = [one for one in present_shop.extensions if isinstance(one, Presence)]
    eventually(lambda: not presence.missing())
    watching = eventlet.spawn(asked, "until_it_is_away")
    eventually(lambda: server.health.watchers)
    (consuming,) = [one for one, name in present_shop._managed_threads.items() if name == "run"]
    consuming.kill()
    assert watching.wait() == ["SERVING", "NOT_SERVING"]
    eventually(lambda: not server.health.watchers)


def test_not_serving_without_the_database(
    container_factory: Any, port: int, asked: Callable[[str], Any]
) -> None:
    nowhere = f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/none"
    settings = {"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": port, "DATABASE_URL": nowhere}
    with config.patch(settings):
        container_factory(PresentShop).start()
    assert asked("checks")[:3] == ["NOT_SERVING", "NOT_SERVING", "NOT_FOUND"]


def test_reflection_tells_a_stranger_what_there_is(shop: Any, asked: Callable[[str], Any]) -> None:
    assert asked("reflection") == [SERVICES, "product.ListProductsRequest", True]
    described = "file_descriptor_response"
    assert asked("reflection_v1") == [described, described, 5, 3]  # NOT_FOUND, INVALID_ARGUMENT
