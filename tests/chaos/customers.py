"""Customers that order during the faults. They retry each request under its idempotency key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.chaos.cast import Account, Cast
from tests.chaos.history import NO_ANSWER, Attempt, History, Items

PATIENCE_SECONDS = 180.0
"""A customer retries an order this long. Two faults in a row are shorter: the broker may go away again, for a
minute, as soon as one order has succeeded."""
FINAL = frozenset({200, 201, 401, 403, 404, 422})
FINAL_CONFLICTS = frozenset({"out-of-stock", "conflict", "already-exists"})


@dataclass
class Shop:
    """A client of the gateway that notes every request in the history.

    `put_in` counts the units of each product that were ever put on the shelf.
    """

    http: httpx.AsyncClient
    cast: Cast
    history: History
    rng: Random
    put_in: dict[str, int] = field(default_factory=dict)

    async def stock_up(self, *stocks: int, price_minor: int = 500) -> list[str]:
        """Create a product for each stock. Return their ids."""
        product_ids: list[str] = []
        for stock in stocks:
            body = {"name": "Chanterelle", "price_minor": price_minor, "stock": stock}
            product = await self.insist("POST", "/products", body)
            product_ids.append(str(product["id"]))
            self.put_in[product_ids[-1]] = stock
        return product_ids

    async def restock(self, product_id: str, quantity: int) -> None:
        await self.insist("POST", f"/products/{product_id}/restock", {"quantity": quantity})
        self.put_in[product_id] += quantity

    async def insist(
        self, method: str, path: str, body: Any = None, account: Account | None = None
    ) -> dict[str, Any]:
        """Retry a request under the same key until it succeeds. Raises AssertionError on a refusal."""
        headers = {"Idempotency-Key": self.new_key(), **(account or self.cast.admin).headers}
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, code, text = await self._request(method, path, body, headers)
            if 200 <= status < 300:
                return dict(json.loads(text))
            assert not _is_final(status, code), f"{method} {path}: {status} {text}"
            assert time.monotonic() < end, (
                f"{method} {path}: still {status or code} after {PATIENCE_SECONDS} s"
            )
            await asyncio.sleep(self.rng.uniform(0.1, 0.5))

    async def read(self, path: str, account: Account | None = None) -> tuple[int, float]:
        """Send one GET. Return the status and the seconds that it took."""
        began = time.monotonic()
        status, _, _ = await self._request("GET", path, None, (account or self.cast.admin).headers)
        return status, time.monotonic() - began

    async def order(
        self,
        items: Items,
        account: Account | None = None,
        key: str | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Attempt:
        """Place an order. Retry under the same key until the response is final or the patience is over.

        Returns the last attempt.
        """
        account = account or self.rng.choice(self.cast.customers)
        key = key or self.new_key()
        end = time.monotonic() + patience
        while True:
            attempt = await self.order_once(items, account, key)
            if _is_final(attempt.status, attempt.code) or time.monotonic() > end:
                return attempt
            await asyncio.sleep(self.rng.uniform(0.2, 1.0))

    async def order_once(self, items: Items, account: Account, key: str) -> Attempt:
        body = _body(items)
        at, began = time.time(), time.monotonic()
        headers = {"Idempotency-Key": key, **account.headers}
        status, code, text = await self._request("POST", "/orders", body, headers, note=False)
        attempt = Attempt(
            at, time.monotonic() - began, account.user_id, key, tuple(items), status, text, code
        )
        self.history.add(attempt)
        return attempt

    async def reuse_key(self, items: Items, account: Account, key: str) -> tuple[int, str | None]:
        """Order other items under a used key. Return the status and code of the final response."""
        headers = {"Idempotency-Key": key, **account.headers}
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, code, _ = await self._request("POST", "/orders", _body(items), headers)
            if _is_final(status, code) or time.monotonic() > end:
                return status, code
            await asyncio.sleep(self.rng.uniform(0.2, 1.0))

    async def cancel(self, order_id: str, account: Account) -> None:
        """Retry the cancellation until it succeeds. Raises AssertionError on a refusal."""
        await self.insist("POST", f"/orders/{order_id}/cancel", account=account)

    async def place_and_cancel(self, items: Items, account: Account) -> None:
        attempt = await self.order(items, account)
        if attempt.status == 201:
            await self.cancel(attempt.order_id, account)

    def new_key(self) -> str:
        return f"{self.rng.getrandbits(96):024x}"

    async def _request(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], *, note: bool = True
    ) -> tuple[int, str | None, str]:
        began = time.monotonic()
        try:
            response = await self.http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            status, code, text = NO_ANSWER, type(error).__name__, ""
        else:
            status, text = response.status_code, response.text
            code = response.json().get("code") if status >= 400 else None
        if note:
            self.history.add_other(f"{method} {path}", status, time.monotonic() - began)
        return status, code, text


def _body(items: Items) -> dict[str, Any]:
    return {"items": [{"product_id": product, "quantity": quantity} for product, quantity in items]}


def _is_final(status: int, code: str | None) -> bool:
    return status in FINAL or (status == 409 and code in FINAL_CONFLICTS)
