"""Health and reflection, which every gRPC service has, as standard clients see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eventlet
import pytest
import requests
from nameko.extensions import DependencyProvider

from nameko_mesh.grpc import GrpcServer
from nameko_mesh.runtime import Presence
from tests.integration.mesh.over_grpc.echo import EchoService
from tests.integration.mesh.over_grpc.stranger import Stranger, enveloped
from tests.waiting import eventually


class Present(EchoService):
    presence = Presence()


class BrokenDatabase(DependencyProvider):
    def probe(self) -> None:
        raise ConnectionError("the database is down")


class PresentWithoutDatabase(Present):
    database = BrokenDatabase()


@pytest.fixture
def ask(program: Callable[..., Any]) -> Callable[..., Any]:
    def ask_for(container: Any, scenario: str, **options: Any) -> Any:
        return program("caller_of_builtins.py", address_of(container), scenario, **options)

    return ask_for


def address_of(container: Any) -> str:
    return f"127.0.0.1:{container.server.bound_port}"


def presence_of(container: Any) -> Presence:
    (presence,) = [ext for ext in container.extensions if isinstance(ext, Presence)]
    return presence


def test_health_is_reported_under_the_name_of_each_service(echo: Any, ask: Callable[..., Any]) -> None:
    assert ask(echo, "check") == ["SERVING", "SERVING", "SERVING", "NOT_FOUND"]
    assert ask(echo, "watch_nobody") == "SERVICE_UNKNOWN"


def test_watching_client_gets_every_change_and_the_end(
    start: Callable[..., Any], ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = start(Present)
    presence = presence_of(shop)
    eventually(lambda: not presence.missing())
    heard: list[str] = []
    watching = eventlet.spawn(ask, shop, "watch", hear=heard.append)
    eventually(lambda: heard == ["SERVING"])
    monkeypatch.setattr(presence, "missing", lambda: ["database"])
    eventually(lambda: heard == ["SERVING", "NOT_SERVING"])
    monkeypatch.undo()
    eventually(lambda: heard == ["SERVING", "NOT_SERVING", "SERVING"])
    shop.stop()
    assert watching.wait() == ["SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]


def test_health_is_that_of_presence(start: Callable[..., Any], ask: Callable[..., Any]) -> None:
    service = start(PresentWithoutDatabase)
    assert ask(service, "check")[:2] == ["NOT_SERVING", "NOT_SERVING"]


def test_many_health_checks_cause_one_probe(start: Callable[..., Any]) -> None:
    shop = start(EchoService)
    probes = []
    shop.server.health._missing = lambda: probes.append(1) or []
    with Stranger(shop.server.bound_port) as client:
        for _ in range(50):
            assert client.call(enveloped(b""), path="/grpc.health.v1.Health/Check") == "grpc 0"
    assert len(probes) < 25


def test_health_is_reported_while_all_workers_are_busy(start: Callable[..., Any]) -> None:
    shop = start(EchoService, max_workers=1)
    EchoService.gate = eventlet.Event()
    with Stranger(shop.server.bound_port) as client:
        held = client.ask(enveloped(b"\x0a\x04gate"))
        assert client.call(enveloped(b""), path="/grpc.health.v1.Health/Check") == "grpc 0"
        EchoService.gate.send()
        assert client.answer(held) == "grpc 0"


def test_reflection_describes_every_service_in_both_versions(echo: Any, ask: Callable[..., Any]) -> None:
    services = [
        "echo.Echo",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert ask(echo, "reflect") == [services, "echo.Say", True]
    file, error = "file_descriptor_response", "error_response"
    assert ask(echo, "reflect_as_v1") == ["list_services_response", file, error, error, error]


def test_consul_gets_the_port_chosen_by_the_system(start: Callable[..., Any], consul_agent: Any) -> None:
    shop = start(Present, CONSUL_HTTP_ADDR=consul_agent.http_addr)

    def registered() -> list[int]:
        answer = requests.get(f"{consul_agent.http_addr}/v1/health/service/echo?passing", timeout=5)
        return [entry["Service"]["Port"] for entry in answer.json()]

    assert eventually(registered) == [shop.server.bound_port]
    assert shop.server.bound_port != presence_of(shop).port


def test_service_is_deregistered_before_its_connections_close(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = start(Present)
    left = []
    for extension in (shop.server, presence_of(shop)):
        leave = extension.leave
        monkeypatch.setattr(
            extension, "leave", lambda left_by=extension, leave=leave: (left.append(left_by), leave())
        )
    shop.stop()
    assert left.index(presence_of(shop)) < left.index(shop.server)


def test_nameko_s_own_container_drains_connections_too(start: Callable[..., Any]) -> None:
    shop = start(EchoService, SERVICE_CONTAINER_CLS="nameko.containers.ServiceContainer")
    with Stranger(shop.server.bound_port) as client:
        assert client.call() == "grpc 0"
        stopping = eventlet.spawn(shop.stop)
        assert client.goodbye() == 0
        stopping.wait()


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_server_binds_to_the_configured_address(host: str, start: Callable[..., Any]) -> None:
    shop = start(EchoService, GRPC_BIND_HOST=host)
    assert shop.server.listener.listening_socket.getsockname()[0] == host


def test_taken_port_is_reported_at_the_start(start: Callable[..., Any], echo: Any) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        start(EchoService, GRPC_BIND_PORT=echo.server.bound_port)
    assert isinstance(echo.server, GrpcServer)
