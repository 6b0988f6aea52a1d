"""The accounts of a run: an admin, and customers that all rows share."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.chaos.mesh import Mesh
from tests.waiting import eventually

CUSTOMERS = 8
PASSWORD = "correct horse battery"
REQUEST_SECONDS = 15.0
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user of the mesh under test."""

    user_id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Cast:
    """The accounts on a mesh, registered once."""

    admin: Account
    customers: list[Account]

    @classmethod
    def of(cls, mesh: Mesh) -> Cast:
        with httpx.Client(base_url=mesh.gateway_url, timeout=REQUEST_SECONDS) as http:
            admin = _log_in(http, "admin@example.com", mesh.settings["ADMIN_PASSWORD"])
            return cls(admin, [_register(http, number) for number in range(CUSTOMERS)])


def _register(http: httpx.Client, number: int) -> Account:
    email = f"chaos-{number}-{uuid.uuid4().hex}@example.com"
    user = {"name": f"Customer {number}", "email": email, "password": PASSWORD}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    eventually(
        lambda: http.post("/users", json=user, headers=key).is_success, PATIENCE_SECONDS, "the registration"
    )
    return _log_in(http, email, PASSWORD)


def _log_in(http: httpx.Client, email: str, password: str) -> Account:
    form = {"username": email, "password": password}
    token = _json_of(lambda: http.post("/auth/token", data=form))["access_token"]
    me = _json_of(lambda: http.get("/users/me", headers={"Authorization": f"Bearer {token}"}))
    return Account(me["id"], token)


def _json_of(send: Callable[[], httpx.Response]) -> dict[str, Any]:
    """Return the first successful response. Right after a start, a busy machine may be late."""

    def successful_json() -> dict[str, Any] | None:
        response = send()
        return response.json() if response.is_success else None

    return eventually(successful_json, PATIENCE_SECONDS, "a successful response") or {}
