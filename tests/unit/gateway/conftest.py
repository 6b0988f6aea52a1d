"""Fixtures: the gateway over ASGI or HTTP, with a double in place of the mesh."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.auth.tokens import Tokens
from gateway.settings import Settings
from tests.unit.gateway.serving import served

SECRET = "a secret of the tests, 32 bytes or more"


class FakeSubscription:
    def __init__(self, mesh: FakeMesh, source: str) -> None:
        self._mesh = mesh
        self._source = source

    async def close(self) -> None:
        del self._mesh.subscribed[self._source]


class FakeMesh:
    """Returns the entry of `results` for `service.method`: a value, an exception or a function."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.contexts: list[dict[str, Any]] = []
        self.deadlines: list[float] = []
        self.is_connected = True
        self.subscribed: dict[str, tuple[str, ...]] = {}

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        deadline: float,
        context: Mapping[str, Any],
    ) -> Any:
        name = f"{service}.{method}"
        self.calls.append((name, dict(kwargs)))
        self.contexts.append(dict(context))
        self.deadlines.append(deadline)
        result = self.results[name]
        if callable(result):
            result = result(**kwargs)
        if isawaitable(result):
            result = await result
        if isinstance(result, Exception):
            raise result
        return result

    async def start(self, *, wait: float) -> None:
        self.is_connected = True

    async def stop(self, *, drain: float) -> None:
        self.is_connected = False

    def subscribe(
        self, source: str, types: Sequence[str], callback: Any, *, on_flowing: Any
    ) -> FakeSubscription:
        self.subscribed[source] = tuple(types)
        on_flowing()
        return FakeSubscription(self, source)

    @property
    def called(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def last(self) -> dict[str, Any]:
        """The arguments of the last call."""
        return self.calls[-1][1]


@pytest.fixture
def mesh() -> FakeMesh:
    return FakeMesh()


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        return Settings(**{"AMQP_URI": "amqp://nowhere", "JWT_SECRET": SECRET, **changes})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def app(settings: Settings, mesh: FakeMesh) -> FastAPI:
    return create_app(settings, mesh)


@pytest.fixture
async def asgi(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application itself. It sends requests that no server would let through."""
    async with asgi_client(app) as client:
        yield client


@pytest.fixture(params=["fastapi", "asgi", "served"])
async def http(
    app: FastAPI, asgi: httpx.AsyncClient, request: pytest.FixtureRequest
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of FastAPI without the fast path, of the application itself, and of a server."""
    if request.param == "asgi":
        yield asgi
    elif request.param == "fastapi":
        async with asgi_client(app.without_fast_path) as client:
            yield client
    else:
        async with (
            served(app) as port,
            # No TLS here, and loading the certificate authorities takes longer than most of these tests.
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False) as client,
        ):
            yield client


def asgi_client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway")


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings.secret, 60)


@pytest.fixture
def alice(tokens: Tokens) -> dict[str, str]:
    """The headers of a request by the user U001."""
    return {"Authorization": f"Bearer {tokens.issue('U001', 'user')}"}


@pytest.fixture
def admin(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue('U000', 'admin')}"}


@pytest.fixture
def an_order() -> Callable[..., dict[str, Any]]:
    """Build an order as the service returns it. A test names only the fields that matter to it."""

    def build(**changes: Any) -> dict[str, Any]:
        return {
            "order_id": "o-1",
            "status": "confirmed",
            "user": {"id": "U001", "name": "Alice", "email": "alice@example.com"},
            "items": [
                {
                    "product": {"id": "P001", "name": "Laptop"},
                    "quantity": 1,
                    "unit_price_minor": 120050,
                    "line_total_minor": 120050,
                }
            ],
            "total_price": 1200.5,
            "total_minor": 120050,
            "currency": "USD",
            "created_at": "2026-01-01T00:00:00.000000Z",
            **changes,
        }

    return build


@pytest.fixture
def is_problem() -> Callable[..., dict[str, Any]]:
    """Assert that a response is a problem with this status and code, and return the problem."""

    def check(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
        assert (response.status_code, response.json().get("code")) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = response.json()
        assert problem["type"] == f"urn:mycelium:problem:{code}"
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert response.headers["x-request-id"]
        if field is not None:
            assert field in [error["field"] for error in problem["errors"]], problem
            assert field in problem["detail"] or len(problem["errors"]) > 1
        return problem

    return check


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
