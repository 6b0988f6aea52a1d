"""Create the benchmark's users and products in a mesh, over HTTP like any client."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import httpx

from bench.catalogue import PRICE_MINOR, PRODUCTS, STOCK, USERS

MAX_TRIES = 5
CALL_TIMEOUT_SECONDS = 30
CONCURRENT_CALLS = 8


def open_shop(url: str, admin_password: str) -> dict[str, str]:
    """Create products and users. Return a token for each user's id."""
    with httpx.Client(base_url=url, timeout=CALL_TIMEOUT_SECONDS) as http:
        _create_products(http, _token(http, "admin@example.com", admin_password))
        return dict(_sign_up(http, name) for name in USERS)


def _sign_up(http: httpx.Client, name: str) -> tuple[str, str]:
    email, password = f"{name}@example.com", secrets.token_urlsafe(16)
    _send(http, "POST", "/users", json={"name": name, "email": email, "password": password})
    token = _token(http, email, password)
    return _send(http, "GET", "/users/me", token)["id"], token


def _create_products(http: httpx.Client, admin: str) -> None:
    def create(product_id: str) -> None:
        product = {"id": product_id, "name": f"Product {product_id}", "price_minor": PRICE_MINOR}
        _send(http, "POST", "/products", admin, json={**product, "stock": STOCK})

    with ThreadPoolExecutor(CONCURRENT_CALLS) as pool:
        list(pool.map(create, PRODUCTS))


def _token(http: httpx.Client, email: str, password: str) -> str:
    form = {"username": email, "password": password}
    return str(_send(http, "POST", "/auth/token", data=form)["access_token"])


def _send(http: httpx.Client, method: str, path: str, token: str = "", **body: Any) -> dict[str, Any]:
    """Send a request until it is answered, because a busy machine may miss a deadline.

    A conflict counts as success: an earlier try may have created the object.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for _ in range(MAX_TRIES):
        response = http.request(method, path, headers=headers, **body)
        if response.status_code < 500:
            break
    if response.status_code != HTTPStatus.CONFLICT:
        response.raise_for_status()
    body_of_response: dict[str, Any] = response.json()
    return body_of_response
