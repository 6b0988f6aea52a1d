"""The client of products, which reads over gRPC, over RPC, or from a cache."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from nameko_mesh.aio import GuardedRpc
from nameko_mesh.errors import (
    DeadlineExceeded,
    MeshError,
    Overloaded,
    Refused,
    RemoteFault,
    Unavailable,
)

from .base import ServiceClient
from .batching import BatcherFactory
from .context import CallContext, Json
from .products_grpc import ProductsOverGrpc
from .stale_cache import ReadResult, StaleCache

log = logging.getLogger(__name__)

STALLED_SECONDS = 0.5
"""Products count as stalled after so long without a response.

A read then gets a cached copy or "unavailable" at once. Orders still wait, because products confirms an
accepted order when it is back.
"""

_MAX_METADATA_LENGTH = 2048
"""Characters of the request ids of a batch, because a gRPC server limits the size of its headers."""


class Products(ServiceClient):
    """Reads a product over `grpc` if there is such a client, then over RPC, then from `cache`.

    `on_fallback` is called with "rpc" or "copy" when the first way fails.
    """

    service = "products"

    def __init__(
        self,
        rpc: GuardedRpc,
        batchers: BatcherFactory,
        *,
        grpc: ProductsOverGrpc | None,
        cache: StaleCache,
        on_fallback: Callable[[str], None],
    ) -> None:
        super().__init__(rpc)
        self._grpc = grpc
        self._cache = cache
        self._on_fallback = on_fallback
        self._get_in_batch = batchers.make(
            "products.get_products", self._get_all, stalled_after=STALLED_SECONDS
        )

    def start(self) -> None:
        if self._grpc is not None:
            self._grpc.start()

    async def stop(self) -> None:
        await self._get_in_batch.stop()
        if self._grpc is not None:
            await self._grpc.stop()

    async def get(self, context: CallContext, product_id: str) -> ReadResult:
        """Return the product as it is now. Reads that arrive together travel in one batch.

        Return a cached copy with its age when products is unavailable or does not answer in time. An
        overload of the gateway itself is no reason for a copy.
        """
        try:
            product = await self._get_in_batch((context, product_id), context.deadline)
        except (Unavailable, DeadlineExceeded) as error:
            copy = None if isinstance(error, Overloaded) else self._cache.get(product_id)
            if copy is None:
                raise
            self._on_fallback("copy")
            return copy
        self._cache.put(product_id, product)
        return ReadResult(product)

    async def _get_all(self, context: CallContext, product_ids: list[str]) -> list[Any]:
        distinct_ids = list(dict.fromkeys(product_ids))
        outcomes = await self._get_distinct(context, distinct_ids)
        if not isinstance(outcomes, list) or len(outcomes) != len(distinct_ids):
            raise RemoteFault("MalformedAnswer", "products.get_products returned no list of outcomes")
        outcome_by_id = dict(zip(distinct_ids, outcomes, strict=True))
        return [outcome_by_id[product_id] for product_id in product_ids]

    async def _get_distinct(self, context: CallContext, product_ids: list[str]) -> Any:
        if self._grpc is not None:
            now = time.time()
            half = now + (context.deadline - now) / 2  # RPC gets the other half
            try:
                return await self._grpc.get_products(
                    product_ids, deadline=half, request_id=context.request_id[:_MAX_METADATA_LENGTH]
                )
            except (Refused, Overloaded):
                raise
            except MeshError as error:
                log.debug("products does not answer over gRPC: %s", error)
                self._on_fallback("rpc")
        return await self._request(context, "get_products", {"product_ids": product_ids}, may_repeat=True)

    async def page(self, context: CallContext, *, limit: int, cursor: str | None, query: str | None) -> Json:
        return await self._read(context, "list_products", limit=limit, cursor=cursor, query=query)

    async def create(self, context: CallContext, command_id: str, product: Json) -> Json:
        return await self._call(context, "create_product", command_id=command_id, **product)

    async def update(self, context: CallContext, command_id: str, product_id: str, changes: Json) -> Json:
        return await self._call(
            context, "update_product", command_id=command_id, product_id=product_id, **changes
        )

    async def restock(self, context: CallContext, command_id: str, product_id: str, quantity: int) -> Json:
        return await self._call(
            context, "restock", command_id=command_id, product_id=product_id, quantity=quantity
        )
