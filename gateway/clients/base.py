"""Typed clients of the services, one method for each RPC method that the gateway uses.

They know names and arguments, nothing else: what a failed call means to an HTTP client is said in
`errors`.
"""

from __future__ import annotations

import logging
from typing import Any

from gateway.clients.context import CallContext, Json
from nameko_mesh.aio import GuardedRpc
from nameko_mesh.errors import (
    RemoteFault,
)

log = logging.getLogger(__name__)


class ServiceClient:
    service: str

    def __init__(self, rpc: GuardedRpc) -> None:
        self._rpc = rpc

    async def _call(self, context: CallContext, method: str, **kwargs: Any) -> Json:
        return self._object(method, await self._answer(context, method, kwargs))

    async def _read(self, context: CallContext, method: str, **kwargs: Any) -> Json:
        """For what changes nothing: it may be asked twice."""
        return self._object(method, await self._answer(context, method, kwargs, may_repeat=True))

    async def _answer(
        self, context: CallContext, method: str, kwargs: Json, *, may_repeat: bool = False
    ) -> Any:
        return await self._rpc.call(
            self.service,
            method,
            kwargs,
            deadline=context.deadline,
            context={"request_id": context.request_id},
            may_repeat=may_repeat,
        )

    def _object(self, method: str, answer: Any) -> Json:
        if not isinstance(answer, dict):
            raise RemoteFault("MalformedAnswer", f"{self.service}.{method} answered no object")
        return answer
