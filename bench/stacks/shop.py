"""Users and products of the benchmark in a mesh, put there over HTTP like anybody else's."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import httpx

from bench.catalogue import PRICE_MINOR, PRODUCTS, STOCK, USERS

TRIES = 5
CALL_SECONDS = 30
AT_ONCE = 8


def open_shop(url: str, admin_password: str) -> dict[str, str]:
    """Fill the shelves and sign the users up. Returns a token for each user, by their ids."""
    with httpx.Client(base_url=url, timeout=CALL_SECONDS) as http:
        _fill_shelves(http, _token(http, "admin@example.com", admin_password))
        return dict(_sign_up(http, name) for name in USERS)


def _sign_up(http: httpx.Client, name: str) -> tuple[str, str]:
    email, password = f"{name}@example.com", secrets.token_urlsafe(16)
    _send(http, "POST", "/users", json={"name": name, "email": email, "password": password})
    token = _token(http, email, password)
    return _send(http, "GET", "/users/me", token)["id"], token


def _fill_shelves(http: httpx.Client, admin: str) -> None:
    def create(product_id: str) -> None:
        product = {"id": product_id, "name": f"Product {product_id}", "price_minor": PRICE_MINOR}
        _send(http, "POST", "/products", admin, json={**product, "stock": STOCK})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(create, PRODUCTS))


def _token(http: httpx.Client, email: str, password: str) -> str:
    form = {"username": email, "password": password}
    return str(_send(http, "POST", "/auth/token", data=form)["access_token"])


def _send(http: httpx.Client, method: str, path: str, token: str = "", **body: Any) -> dict[str, Any]:
    """Tried until it is answered: a machine that others keep busy may miss a deadline, and then what
    was asked for may be there already."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for _ in range(TRIES):
        answer = http.request(method, path, headers=headers, **body)
        if answer.status_code < 500:
            break
    if answer.status_code != HTTPStatus.CONFLICT:
        answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
