"""The client of products."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.clients.base import ServiceClient
from gateway.clients.batching import BatcherFactory
from gateway.clients.context import CallContext, Json
from nameko_mesh.aio import GuardedRpc
from nameko_mesh.errors import (
    DeadlineExceeded,
    MeshError,
    Overloaded,
    Refused,
    RemoteFault,
    Unavailable,
)

from .products_grpc import ProductsOverGrpc
from .stale_cache import ReadResult, StaleCache

log = logging.getLogger(__name__)


STALLED_SECONDS = 0.5
"""When products have not been answered for so long, who asks next gets a copy at once, or is sent away.
Orders are not: what is accepted now is confirmed when products is back."""


_MAX_METADATA_LENGTH = 2048
"""Characters of the request ids of a batch: a server takes only so many headers."""


class Products(ServiceClient):
    """A product is read over gRPC where `direct` is given; by RPC when nobody answers there; and when
    nobody answers at all, it is what `copies` still has of it. `on_fallback` is told of the latter two.
    """

    service = "products"

    def __init__(
        self,
        rpc: GuardedRpc,
        batching: BatcherFactory,
        *,
        direct: ProductsOverGrpc | None,
        copies: StaleCache,
        on_fallback: Callable[[str], None],
    ) -> None:
        super().__init__(rpc)
        self._direct = direct
        self._copies = copies
        self._on_fallback = on_fallback
        self._reading = batching.of("products.get_products", self._get_all, stalled_after=STALLED_SECONDS)

    def start(self) -> None:
        if self._direct is not None:
            self._direct.start()

    async def stop(self) -> None:
        await self._reading.stop()
        if self._direct is not None:
            await self._direct.stop()

    async def get(self, context: CallContext, product_id: str) -> ReadResult:
        """As it is now: what is asked for together is read together. Only what nobody can be asked for
        is a copy of what was read some seconds ago, and says so.
        """
        try:
            product = await self._reading((context, product_id), context.deadline)
        except (Unavailable, DeadlineExceeded) as error:
            copy = None if isinstance(error, Overloaded) else self._copies.recent(product_id)
            if copy is None:
                raise
            self._on_fallback("copy")
            return copy
        self._copies.keep(product_id, product)
        return ReadResult(product)

    async def _get_all(self, context: CallContext, product_ids: list[str]) -> list[Any]:
        distinct = list(dict.fromkeys(product_ids))
        answers = await self._read_all(context, distinct)
        if not isinstance(answers, list) or len(answers) != len(distinct):
            raise RemoteFault("MalformedAnswer", "products.get_products answered no outcomes")
        found = dict(zip(distinct, answers, strict=True))
        return [found[product_id] for product_id in product_ids]

    async def _read_all(self, context: CallContext, product_ids: list[str]) -> Any:
        if self._direct is not None:
            now = time.time()
            half = now + (context.deadline - now) / 2  # the other half is for the other way
            try:
                return await self._direct.get_products(
                    product_ids, deadline=half, request_id=context.request_id[:_MAX_METADATA_LENGTH]
                )
            except (Refused, Overloaded):
                raise
            except MeshError as error:
                log.debug("products does not answer over gRPC: %s", error)
                self._on_fallback("rpc")
        return await self._answer(context, "get_products", {"product_ids": product_ids}, may_repeat=True)

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
