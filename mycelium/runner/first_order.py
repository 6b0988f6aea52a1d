"""Place the first order over HTTP as Alice, like any other client.

urllib instead of httpx, because this process stays to supervise the mesh and has to be small.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any

REQUEST_TIMEOUT_SECONDS = 10
PRODUCT_ID = "P001"
RESTOCK_QUANTITY = 10


class OrderFailed(Exception):
    """The gateway did not confirm the order. The message holds its response."""


class Gateway:
    """A client of the gateway's HTTP interface. Methods raise OrderFailed."""

    def __init__(self, url: str) -> None:
        self.url = url

    def token(self, email: str, password: str) -> str:
        form = urllib.parse.urlencode({"username": email, "password": password}).encode()
        try:
            return str(self._send("POST", "/auth/token", form, {})["access_token"])
        except OrderFailed as error:
            if "unauthenticated" not in str(error):
                raise
            raise OrderFailed(
                f"{email} has another password in this database, because the database is older than "
                ".mycelium: set ALICE_PASSWORD, BOB_PASSWORD and ADMIN_PASSWORD"
            ) from error

    def get(self, path: str) -> dict[str, Any]:
        return self._send("GET", path, None, {})

    def post(self, path: str, body: Any, token: str, **headers: str) -> dict[str, Any]:
        all_headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
        return self._send("POST", path, json.dumps(body).encode(), all_headers)

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, data=body, headers=dict(headers), method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:  # noqa: S310
                result: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise OrderFailed(f"{method} {path}: {error.code} {text}") from error
        except OSError as error:
            raise OrderFailed(f"{method} {path}: {error}") from error
        return result


def place(gateway_url: str, passwords: Mapping[str, str]) -> tuple[dict[str, Any], str, bool]:
    """Order a laptop as Alice. The admin restocks first when the laptops are sold out.

    Returns the order, Alice's token, and whether the admin restocked. Raises OrderFailed.
    """
    gateway = Gateway(gateway_url)
    is_sold_out = gateway.get(f"/products/{PRODUCT_ID}")["stock"] < 1
    if is_sold_out:
        admin = gateway.token("admin@example.com", passwords["ADMIN_PASSWORD"])
        gateway.post(f"/products/{PRODUCT_ID}/restock", {"quantity": RESTOCK_QUANTITY}, admin)
    alice = gateway.token("alice@example.com", passwords["ALICE_PASSWORD"])
    request = {"product_id": PRODUCT_ID, "quantity": 1}
    order = gateway.post("/orders", request, alice, **{"Idempotency-Key": str(uuid.uuid4())})
    if order["status"] != "confirmed":
        raise OrderFailed(f"the order {order['order_id']} is {order['status']}")
    return order, alice, is_sold_out
