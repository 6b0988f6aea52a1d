"""The base class of the clients: calls with a deadline and a request id, and a check of the response."""

from __future__ import annotations

from typing import Any

from nameko_mesh.aio import GuardedRpc
from nameko_mesh.errors import RemoteFault

from .context import CallContext, Json


class ServiceClient:
    """A client knows names and arguments. `gateway.web.problems` decides what an error means in HTTP."""

    service: str

    def __init__(self, rpc: GuardedRpc) -> None:
        self._rpc = rpc

    async def _call(self, context: CallContext, method: str, **kwargs: Any) -> Json:
        """Call a method that changes something. Return its result, an object."""
        return self._object(method, await self._request(context, method, kwargs))

    async def _read(self, context: CallContext, method: str, **kwargs: Any) -> Json:
        """Call a method that changes nothing. The call may be sent twice."""
        return self._object(method, await self._request(context, method, kwargs, may_repeat=True))

    async def _request(
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

    def _object(self, method: str, result: Any) -> Json:
        if not isinstance(result, dict):
            raise RemoteFault("MalformedAnswer", f"{self.service}.{method} returned no object")
        return result
